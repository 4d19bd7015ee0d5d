"""The frozen text tower: class prompts to class embeddings.

Shapes: C classes, L prompt length, S tokens of a prompt with those that a method inserts, D the tower's width, E the
width of a class embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmfuse.encoders.architectures import TextArchitecture, architecture_of
from mmfuse.encoders.supported import TEXT
from mmfuse.encoders.tower import Context, Tower, plug
from mmfuse.errors import MmfuseError


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
        model: `CLIPTextModelWithProjection` or `SiglipTextModel`.
        tokenizer: the checkpoint's own tokenizer.
        name: how the user called it.
    """

    kind = "text"

    def __init__(self, model: Any, *, tokenizer: Any, name: str) -> None:
        self.architecture: TextArchitecture = architecture_of(model, TEXT)
        super().__init__(model, name=name, architecture=self.architecture)
        self.tokenizer = tokenizer
        self.inserters: list[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = []

    @property
    def context_length(self) -> int:
        """Longest prompt the tower can read, in tokens."""
        return int(self.model.config.max_position_embeddings)

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it (CLIP), so that padding behind the end changes nothing."""
        return self.architecture.causal

    @property
    def start_tokens(self) -> int:
        """How many tokens the tokenizer puts before the words; one more ends them."""
        return self.architecture.start_tokens

    @property
    def word_embeddings(self) -> nn.Module:
        """Token ids (C, L) to (C, L, D); positions are added afterwards."""
        return self._embeddings.token_embedding

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
            trim: pad to the longest prompt instead of to the context length. Exact for a causal tower, whose pooled
                token never sees the padding; a tower that is not causal is always padded to its full length.
            reserved_tokens: tokens that a method will insert.

        Raises:
            MmfuseError: a prompt does not fit.
        """
        if not texts:
            raise MmfuseError("there are no prompts to read")
        limit = self.context_length - reserved_tokens
        rows = [self.tokenizer(text, verbose=False)["input_ids"] for text in texts]
        longest = max(range(len(rows)), key=lambda row: len(rows[row]))
        if len(rows[longest]) > limit:
            reserved = f" less {reserved_tokens} for learned context" if reserved_tokens else ""
            raise MmfuseError(
                f"the prompt {texts[longest]!r} has {len(rows[longest])} tokens; the text tower {self.name!r} reads "
                f"{self.context_length}{reserved}"
            )
        length = len(rows[longest]) if trim and self.causal else limit
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows])
        # SigLIP pools the last place of the padded prompt, CLIP the end-of-text token.
        last = torch.tensor([len(row) - 1 if self.causal else length - 1 for row in rows])
        return Prompts(ids, last)

    def forward(self, prompts: Prompts) -> Tensor:
        """Class prompts (C, L) to class embeddings (C, E), projected but not normalised."""
        self.refresh()
        words, last = self.word_embeddings(prompts.ids), prompts.last  # (C, L, D), (C,)
        if self.enabled:
            for insert in self.inserters:
                words, last = insert(words, last)  # a method's tokens among them: (C, S, D)
        tokens = words + self._embeddings.position_embedding.weight[: words.shape[1]]
        context = Context()
        if self.enabled:
            tokens = plug(self.enter, tokens, context)
        tokens = self.conclude(self.run_layers(tokens, context), context)  # (C, S, D)
        pooled = tokens[torch.arange(len(tokens), device=tokens.device), last]  # (C, D)
        embedded = self.model.get_submodule(self.architecture.projection)(pooled)  # (C, E)
        return plug(self.finish, embedded, context) if self.enabled else embedded

    def try_out(self) -> Tensor:
        """See `Tower.try_out`: one short prompt."""
        return self(self.tokenize(["a"]).to(self.pretrained[0].device))

    def _attention_arguments(self, hidden: Tensor, context: Context) -> dict[str, Any]:
        fused = self.model.config._attn_implementation != "eager"
        return self.architecture.attention_arguments(hidden, fused=fused)
