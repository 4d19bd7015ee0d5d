"""The frozen text tower: class prompts to class embeddings.

Shapes: C classes, L prompt length, S tokens of a prompt with those that a method inserts, D the tower's width, E the
width of a class embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from string import punctuation as PUNCTUATION
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfuse.encoders.architectures import TextArchitecture, architecture_of
from mmfuse.encoders.pooling import Pooling
from mmfuse.encoders.supported import TEXT
from mmfuse.encoders.tower import Context, Tower, plug
from mmfuse.errors import MmfuseError

_NO_PUNCTUATION = str.maketrans("", "", PUNCTUATION)


@dataclass(frozen=True)
class Prompts:
    """Tokenised class prompts.

    Args:
        ids: token ids, (C, L), padded at the end.
        last: place of the token that is pooled (the end-of-text token in CLIP), (C,).
    """

    ids: Tensor
    last: Tensor

    def to(self, device: torch.device) -> Prompts:
        """The same prompts on a device."""
        return Prompts(self.ids.to(device), self.last.to(device))


class TextTower(Tower):
    """A frozen text encoder with its projection.

    Args:
        model: of an architecture in `mmfuse.encoders.text_records`.
        tokenizer: the checkpoint's own tokenizer.
        name: how the user called it.
        pooling: of a sentence encoder.
        punctuation: whether texts keep theirs; SigLIP was trained without, and so are those it is given.
    """

    kind = "text"

    def __init__(
        self, model: Any, *, tokenizer: Any, name: str, pooling: Pooling | None = None, punctuation: bool = True
    ) -> None:
        self.architecture: TextArchitecture = architecture_of(model, TEXT)
        super().__init__(model, name=name, architecture=self.architecture)
        self.tokenizer = tokenizer
        self.pooling = pooling or Pooling()
        self._punctuation = punctuation
        self.inserters: list[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = []

    @property
    def context_length(self) -> int:
        """Longest prompt the tower can read, in tokens."""
        config = self.model.config
        positions = int(config.max_position_embeddings) - self.architecture.first_position(config)
        return min(positions, self.pooling.longest or positions)

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it (CLIP), so that padding behind the end changes nothing."""
        return self.architecture.sees == "before"

    @property
    def start_tokens(self) -> int:
        """How many tokens the tokenizer puts before the words; one more ends them."""
        return self.architecture.start_tokens

    @property
    def word_embeddings(self) -> nn.Module:
        """Token ids (C, L) to (C, L, D); positions are added afterwards."""
        return getattr(self._embeddings, self.architecture.words)

    @property
    def _embeddings(self) -> Any:
        return self.model.get_submodule(self.architecture.embeddings)

    @property
    def embedding_width(self) -> int:
        """E, the width of a class embedding."""
        return int(getattr(self.model.config, self.architecture.projection_width))

    def tokenize(self, texts: list[str], *, trim: bool = True, reserved_tokens: int = 0) -> Prompts:
        """Prompts as token ids.

        Args:
            texts: C prompts.
            trim: pad to the longest prompt instead of to the context length. Exact for a tower whose pooled token
                never sees the padding; one that sees it (SigLIP) is always padded to its full length.
            reserved_tokens: tokens that a method will insert.

        Raises:
            MmfuseError: a prompt does not fit.
        """
        if not texts:
            raise MmfuseError("there are no prompts to read")
        limit = self.context_length - reserved_tokens
        rows = [self.token_ids(text) for text in texts]
        longest = max(range(len(rows)), key=lambda row: len(rows[row]))
        if len(rows[longest]) > limit:
            reserved = f" less {reserved_tokens} for learned context" if reserved_tokens else ""
            raise MmfuseError(
                f"the prompt {texts[longest]!r:.80} has {len(rows[longest])} tokens; the text tower {self.name!r} "
                f"reads {self.context_length}{reserved}"
            )
        blind = self.architecture.sees != "all"  # to padding
        length = len(rows[longest]) if trim and blind else limit
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows])
        # SigLIP pools the last place of the padded prompt, CLIP the end-of-text token.
        last = torch.tensor([len(row) - 1 if blind else length - 1 for row in rows])
        return Prompts(ids, last)

    def token_ids(self, text: str) -> list[int]:
        """Token ids of a text as the tower was trained to read it, with those of its start and end, and no padding."""
        if self.architecture.lowercase or self.pooling.lowercase:
            text = text.lower()
        if not self._punctuation:
            text = " ".join(text.translate(_NO_PUNCTUATION).split())
        return list(self.tokenizer(text, padding=False, truncation=False, verbose=False)["input_ids"])

    def forward(self, prompts: Prompts) -> Tensor:
        """Class prompts (C, L) to class embeddings (C, E), projected but not normalised."""
        self.refresh()
        words, last = self.word_embeddings(prompts.ids), prompts.last  # (C, L, D), (C,)
        if self.enabled:
            for insert in self.inserters:
                words, last = insert(words, last)  # a method's tokens among them: (C, S, D)
        tokens = self.architecture.embed(self._embeddings, words)
        visible = torch.arange(words.shape[1], device=last.device) <= last[:, None]  # (C, S)
        context = Context(visible=visible if self.architecture.sees == "text" else None)
        if self.enabled:
            tokens = plug(self.enter, tokens, context)
        tokens = self.conclude(self.run_layers(tokens, context), context)  # (C, S, D)
        if context.visible is not None:
            embedded = self._pool(tokens, context.visible)  # (C, E)
        else:
            pooled = tokens[torch.arange(len(tokens), device=tokens.device), last]  # (C, D)
            embedded = self.model.get_submodule(self.architecture.projection)(pooled)  # (C, E)
        return plug(self.finish, embedded, context) if self.enabled else embedded

    def try_out(self) -> Tensor:
        """See `Tower.try_out`: one short prompt."""
        return self(self.tokenize(["a"]).to(self.pretrained[0].device))

    def _pool(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Tokens (C, S, D), of which some are padding, to one embedding a text, (C, D)."""
        seen = visible.unsqueeze(-1)
        if self.pooling.mode == "cls":
            pooled = tokens[:, 0]
        elif self.pooling.mode == "max":
            pooled = tokens.masked_fill(~seen, float("-inf")).amax(dim=1)
        else:
            pooled = (tokens * seen).sum(dim=1) / seen.sum(dim=1)
        return functional.normalize(pooled, dim=-1) if self.pooling.normalise else pooled

    def _attention_arguments(self, hidden: Tensor, context: Context) -> dict[str, Any]:
        """What the attention takes beside its input (N, S, D); the fastest kernels take no mask, but a word."""
        fused, sees = self.model.config._attn_implementation != "eager", self.architecture.sees
        size = hidden.shape[1]
        if sees == "all":
            return {"attention_mask": None}
        if context.visible is not None:
            return self._masked(context.visible, size, fused=fused)
        if fused:
            return {"attention_mask": None, "is_causal": True}
        return {"attention_mask": hidden.new_full((1, 1, size, size), float("-inf")).triu(1)}  # added to the scores

    def _masked(self, visible: Tensor, size: int, *, fused: bool) -> dict[str, Any]:
        """Masks that hide padding; what a method puts before the tokens is seen by all, at no place of its own."""
        before = size - visible.shape[1]
        seen = functional.pad(visible, (before, 0), value=True)[:, None, None]  # (C, 1, 1, S)
        arguments: dict[str, Any] = {"attention_mask": seen}
        if not fused:
            arguments["attention_mask"] = torch.zeros_like(seen, dtype=torch.float32).masked_fill(~seen, float("-inf"))
        if self.architecture.bias is not None:
            bias = self.architecture.bias(self.model, size - before)
            arguments["position_bias"] = functional.pad(bias, (before, 0, before, 0))
        return arguments
