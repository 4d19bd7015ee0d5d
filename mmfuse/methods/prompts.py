"""Prompt-based methods: learned tokens beside the ones that the frozen tower makes of its input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.text import TextTower
from mmfuse.encoders.tower import Context, Socket, Tower
from mmfuse.methods.base import Method
from mmfuse.methods.validation import at_least, chosen_depth, chosen_layers


class VPTDeep(Method):
    """Deep visual prompts (Jia et al. 2022, eq. 5): before every layer, fresh prompt tokens replace the last layer's.

    The prompts stand right after the CLS token and are taken out before the final norm. Initial values are uniform in
    ±√(6 / (3·patch² + D)), as in the paper.

    Args:
        tower: an image tower.
        generator: source of the initial prompts.
        length: p, prompt tokens before each layer.
        depth: how many layers, from the first, get prompts of their own; all where None.
    """

    def __init__(
        self, tower: ImageTower, *, generator: torch.Generator, length: int = 10, depth: int | None = None
    ) -> None:
        super().__init__()
        at_least("length", length, 1)
        bound = math.sqrt(6 / (3 * tower.patch_size**2 + tower.width))
        self.length = length
        self.first = min(tower.special_tokens, 1)
        self.prompts = nn.Parameter(torch.empty(chosen_depth(tower, depth), length, tower.width))
        nn.init.uniform_(self.prompts, -bound, bound, generator=generator)

    def attach(self, tower: Tower) -> None:
        """Insert before the first layer, replace before the others, take out at the end."""
        tower.enter.append(self._insert)
        for layer in range(1, len(self.prompts)):
            tower.sockets[layer].before.append(partial(self._replace, layer))
        tower.leave.append(self._remove)

    def _insert(self, tokens: Tensor, context: Context) -> Tensor:
        context.special += self.length
        return self._join(tokens, tokens[:, self.first :], layer=0)

    def _replace(self, layer: int, tokens: Tensor, _: Context) -> Tensor:
        return self._join(tokens, tokens[:, self.first + self.length :], layer=layer)

    def _join(self, tokens: Tensor, rest: Tensor, *, layer: int) -> Tensor:
        prompts = self.prompts[layer].to(tokens.dtype).expand(len(tokens), -1, -1)
        return torch.cat([tokens[:, : self.first], prompts, rest], dim=1)

    def _remove(self, tokens: Tensor, context: Context) -> Tensor:
        context.special -= self.length
        return torch.cat([tokens[:, : self.first], tokens[:, self.first + self.length :]], dim=1)


class VPTShallow(VPTDeep):
    """Shallow visual prompts (Jia et al. 2022, eq. 4): prompt tokens enter before the first layer and stay.

    Args:
        tower: an image tower.
        generator: source of the initial prompts.
        length: p, prompt tokens.
    """

    def __init__(self, tower: ImageTower, *, generator: torch.Generator, length: int = 10) -> None:
        super().__init__(tower, generator=generator, length=length, depth=1)


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
            if not isinstance(words, str):
                raise ValueError(f"words must be text, got {words!r}")
            ids = tower.token_ids(words)
            own = torch.tensor(ids[tower.start_tokens : -1], dtype=torch.long)  # without the end token
            self.context = nn.Parameter(tower.word_embeddings(own).detach().clone())
        self.reserved_tokens = len(self.context)
        at_least("number of tokens in words", self.reserved_tokens, 1)
        if self.reserved_tokens > tower.context_length - 4:
            raise ValueError(
                f"length {self.reserved_tokens} leaves no room for a class name in {tower.context_length} tokens"
            )
        self.first = tower.start_tokens

    def attach(self, tower: Tower) -> None:
        """Insert behind the start token, before positions are added."""
        assert isinstance(tower, TextTower)
        tower.inserters.append(self._insert)

    def _insert(self, words: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        context = self.context.to(words.dtype).expand(len(words), -1, -1)
        return torch.cat([words[:, : self.first], context, words[:, self.first :]], dim=1), last + self.reserved_tokens


class DeepPrompt(CoOp):
    """Deep text prompts (as in ViFi-CLIP, Rasheed et al. 2023): learned context, and fresh vectors before every layer.

    Before the first layer it is `CoOp`; before each later one the M places are filled anew, so that what the layers
    made of the context is forgotten.

    Args:
        tower: a text tower.
        generator: source of the initial vectors, N(0, 0.02²).
        length: M, vectors before each layer.
        depth: how many layers, from the first, get vectors of their own; all where None.
        words: as in `CoOp`, for the first layer.
    """

    def __init__(
        self,
        tower: TextTower,
        *,
        generator: torch.Generator,
        length: int = 10,
        depth: int | None = None,
        words: str | None = None,
    ) -> None:
        super().__init__(tower, generator=generator, length=length, words=words)
        later = chosen_depth(tower, depth) - 1
        self.prompts = nn.Parameter(0.02 * torch.randn(later, self.reserved_tokens, tower.width, generator=generator))

    def attach(self, tower: Tower) -> None:
        """As `CoOp`, and before every later layer."""
        super().attach(tower)
        for place in range(len(self.prompts)):
            tower.sockets[place + 1].before.append(partial(self._replace, place))

    def _replace(self, place: int, tokens: Tensor, _: Context) -> Tensor:
        prompts = self.prompts[place].to(tokens.dtype).expand(len(tokens), -1, -1)
        return torch.cat([tokens[:, : self.first], prompts, tokens[:, self.first + self.reserved_tokens :]], dim=1)


class Prefix(Method):
    """Prefix tuning (Li and Liang 2021, eq. 3): learned keys and values that every token may attend to, in each layer.

    Trained directly, N(0, 0.02²), without the paper's re-parametrising network.

    The attention of `transformers` knows no foreign keys. So p blank tokens are put in front of its input, whatever the
    key and value maps make of them is overwritten with the learned vectors, and their outputs are dropped: exactly the
    paper's attention, in front of a causal mask too.

    Args:
        tower: either tower.
        generator: source of the initial keys and values.
        length: p, pairs of a key and a value in each layer.
        layers: numbers of the layers that get them; all where None.
    """

    def __init__(
        self, tower: Tower, *, generator: torch.Generator, length: int = 10, layers: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        at_least("length", length, 1)
        self.length = length
        self.layers = chosen_layers(tower, layers)
        self.first_adapted_layer = self.layers[0]
        self.prompts = nn.Parameter(0.02 * torch.randn(len(self.layers), 2, length, tower.width, generator=generator))

    def attach(self, tower: Tower) -> None:
        """Around the attentions."""
        for place, layer in enumerate(self.layers):
            maps = [tower.model.get_submodule(tower.linear_paths(role, [layer])[0]) for role in ("k", "v")]
            tower.sockets[layer].around_attention.append(partial(self._around, place, maps))

    def _around(self, place: int, maps: list[nn.Module], attend: Socket, hidden: Tensor, context: Context) -> Tensor:
        blank = hidden.new_zeros(len(hidden), self.length, hidden.shape[-1])
        handles = [
            linear.register_forward_hook(partial(self._overwrite, vectors))
            for linear, vectors in zip(maps, self.prompts[place], strict=True)
        ]
        try:
            return attend(torch.cat([blank, hidden], dim=1), context)[:, self.length :]
        finally:
            for handle in handles:
                handle.remove()

    def _overwrite(self, vectors: Tensor, linear: nn.Module, given: tuple[Tensor, ...], mapped: Tensor) -> Tensor:
        learned = vectors.to(mapped.dtype).expand(len(mapped), -1, -1)
        return torch.cat([learned, mapped[:, self.length :]], dim=1)
