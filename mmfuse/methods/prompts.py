"""Prompt-based methods: learned tokens beside the ones that the frozen tower makes of its input."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from mmfuse.encoders.tower import Context, ImageTower, TextTower, Tower
from mmfuse.methods.base import Method, at_least


class VPTDeep(Method):
    """Deep visual prompts (Jia et al. 2022, eq. 5): before every layer, fresh prompt tokens replace the last layer's.

    The prompts stand right after the CLS token and are taken out before the final norm. Initial values are uniform in
    ±√(6 / (3·patch² + D)), as in the paper.

    Args:
        tower: an image tower.
        generator: source of the initial prompts.
        length: p, prompt tokens before each layer.
    """

    def __init__(self, tower: ImageTower, *, generator: torch.Generator, length: int = 10) -> None:
        super().__init__()
        at_least("length", length, 1)
        bound = math.sqrt(6 / (3 * tower.patch_size**2 + tower.width))
        self.length = length
        self.first = min(tower.special_tokens, 1)
        self.prompts = nn.Parameter(torch.empty(tower.depth, length, tower.width))
        nn.init.uniform_(self.prompts, -bound, bound, generator=generator)

    def attach(self, tower: Tower) -> None:
        """Insert before the first layer, replace before the others, take out at the end."""
        tower.enter.append(self._insert)
        for index, sockets in enumerate(tower.sockets[1:], start=1):
            sockets.before.append(partial(self._replace, layer=index))
        tower.leave.append(self._remove)

    def _insert(self, tokens: Tensor, context: Context) -> Tensor:
        context.extra += self.length
        return self._join(tokens, tokens[:, self.first :], layer=0)

    def _replace(self, tokens: Tensor, _: Context, *, layer: int) -> Tensor:
        return self._join(tokens, tokens[:, self.first + self.length :], layer=layer)

    def _join(self, tokens: Tensor, rest: Tensor, *, layer: int) -> Tensor:
        prompts = self.prompts[layer].to(tokens.dtype).expand(len(tokens), -1, -1)
        return torch.cat([tokens[:, : self.first], prompts, rest], dim=1)

    def _remove(self, tokens: Tensor, context: Context) -> Tensor:
        context.extra -= self.length
        return torch.cat([tokens[:, : self.first], tokens[:, self.first + self.length :]], dim=1)


class CoOp(Method):
    """Learned context (Zhou et al. 2022, CoOp, eq. 2): M vectors, shared by all classes, in place of the template.

    A prompt becomes [start] v_1 … v_M [class name] . [end].

    Args:
        tower: a text tower.
        generator: source of the initial vectors, when no words are given.
        length: M, context vectors; when `words` are given, their number of tokens counts.
        words: words whose embeddings the vectors start from ("a photo of a"); without them N(0, 0.02²).
    """

    replaces_template = True

    def __init__(
        self, tower: TextTower, *, generator: torch.Generator, length: int = 16, words: str | None = None
    ) -> None:
        super().__init__()
        at_least("length", length, 1)
        width = tower.width
        if words is None:
            self.context = nn.Parameter(0.02 * torch.randn(length, width, generator=generator))
        else:
            start_and_end = 2 if tower.causal else 1
            ids = tower.tokenizer(words)["input_ids"]
            ids = ids[1:-1] if start_and_end == 2 else ids[:-1]
            text = getattr(tower.model, "text_model", tower.model)
            self.context = nn.Parameter(text.embeddings.token_embedding.weight[ids].detach().clone())
        self.room = len(self.context)
        if self.room > tower.context_length - 4:
            raise ValueError(f"length {self.room} leaves no room for a class name in {tower.context_length} tokens")
        # CLIP's prompts begin with a start token; SigLIP's do not.
        self.first = 1 if tower.causal else 0

    def attach(self, tower: Tower) -> None:
        """Insert behind the start token, before positions are added."""
        assert isinstance(tower, TextTower)
        tower.inserters.append(self._insert)

    def _insert(self, words: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        context = self.context.to(words.dtype).expand(len(words), -1, -1)
        return torch.cat([words[:, : self.first], context, words[:, self.first :]], dim=1), last + self.room
