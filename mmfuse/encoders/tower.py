"""The frozen towers, with sockets into which a method plugs its modules.

A tower keeps the model of `transformers` as it is, under its own weight names, and walks its layers itself:

    x = embed(input)                                        -> sockets `enter`
    for each layer:
        x = before(x)                                       sockets `before`
        h = norm1 x
        x = x + after_attention(scale1(attention h))        sockets `around_attention`, `after_attention`
        h = norm2 x
        x = x + after_mlp(scale2(mlp h)) + beside_mlp(h)    sockets `beside_mlp`, `after_mlp`
        (where norms come after the sums, h = x, and each sum is normed)
    x = leave(x)                                            -> sockets `leave`
    y = output(final norm(x))                               -> sockets `finish`

Sockets sit behind the layer scale on purpose: DINOv2 multiplies each branch by a learned vector, and an adapter placed
inside would be multiplied with it.

Shapes: B clips, T frames, N = B·T frames in a batch, P patches, S tokens, D the tower's width, C classes, L prompt
length, E the width of a class embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from mmfuse.encoders.architectures import Architecture, Layout, Places, as_names, find_layout, submodule
from mmfuse.encoders.cpu_attention import use_products
from mmfuse.errors import MmfuseError
from mmfuse.utils.files import user_path


@dataclass
class Context:
    """What a socket may need to know of the batch it is called on.

    Args:
        frames: T, frames a clip (1 in the text tower); in a video tower its steps of time.
        special: tokens before the patches: CLS, registers, and whatever a method has inserted so far.
        places: where the patches are, as far as the tower's attention asks for it.
        visible: which tokens (N, S) may be attended to, where some are padding.
    """

    frames: int = 1
    special: int = 0
    places: Places = None
    visible: Tensor | None = None


Socket = Callable[[Tensor, Context], Tensor]
# Wraps an attention, itself a socket: given it, its input and the context, gives its output.
Wrapper = Callable[[Socket, Tensor, Context], Tensor]


@dataclass
class Sockets:
    """Places in one layer where a method may plug in; each socket maps tokens (N, S, D) to the same shape."""

    before: list[Socket] = field(default_factory=list)
    around_attention: list[Wrapper] = field(default_factory=list)
    after_attention: list[Socket] = field(default_factory=list)
    beside_mlp: list[Socket] = field(default_factory=list)
    after_mlp: list[Socket] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything is plugged in."""
        return any(getattr(self, place.name) for place in fields(self))


class Adaptation(Protocol):
    """What a tower asks of the method that adapts it (`mmfuse.methods.base.Method`)."""

    first_adapted_layer: int
    """The first layer that the method changes, or the tower's depth; 0 where it does not say."""
    inserted: Sequence[nn.Module]
    """Modules of the method's own inside the tower's model, which follow `train` and `eval`."""

    def switch(self, on: bool) -> None:
        """Compute, or leave the tower as it was pretrained; trained weights stay as they are."""

    def refresh(self) -> None:
        """Bring up to date what is computed from weights and kept; called before each forward pass."""


class Tower(nn.Module):
    """A frozen transformer and its sockets; the base of `ImageTower` and `TextTower`.

    Args:
        model: the model of `transformers`; it is frozen and put into evaluation mode.
        name: how the user called it, for messages and records.
        architecture: the record of the model's architecture.
    """

    kind = "tower"

    def __init__(self, model: Any, *, name: str, architecture: Architecture) -> None:
        super().__init__()
        for part in architecture.discarded:
            model._modules.pop(part, None)
        self.model = model.requires_grad_(False).eval()
        self.name = name
        self.post_norm = architecture.post_norm
        self.layout: Layout = find_layout(model, architecture)
        self.readout, self.unused = architecture.readout, architecture.unused
        self.sockets = [Sockets() for _ in self.layers]
        self.enter: list[Socket] = []
        self.leave: list[Socket] = []
        self.finish: list[Socket] = []
        self.adapted_by: str | None = None
        self._method: tuple[Adaptation, ...] = ()
        self._disabled = 0
        self.casts_once = True
        """Whether autocast casts the input of an attention once, and not for query, key and value each."""
        self.checkpointing = False
        """Whether training keeps one layer's activations at a time, and computes them again for the gradients."""
        # By module and name, found before a method adds weights of its own: the tensors themselves can be replaced
        # (`load_state_dict(assign=True)`), and modules can be wrapped and renamed.
        self._own_weights = _weights_by_place(model)

    @property
    def pretrained(self) -> list[Tensor]:
        """The tower's own weights as they are now, under whatever a method has put around them."""
        return [_own_weight(module, name) for module, name in self._own_weights]

    @property
    def method(self) -> Adaptation | None:
        """The method that adapts the tower."""
        return self._method[0] if self._method else None

    def adapt(self, method: Adaptation) -> None:
        """Note the method that adapts the tower; its own `attach` has plugged it in."""
        # In a tuple, so that torch does not count the method's weights as the tower's own.
        self._method = (method,)

    def attend_by_products(self, on: bool) -> None:
        """Take the attention's gradients by matrix products where that is faster; see `cpu_attention`."""
        use_products(self.model, on=on)

    @property
    def reloadable_name(self) -> str:
        """The name under which the tower is found again: that of a local folder with its whole path."""
        return str(user_path(self.name).resolve()) if user_path(self.name).is_dir() else self.name

    @property
    def layers(self) -> nn.ModuleList:
        """The model's own list of layers."""
        found = submodule(self.model, self.layout.layers)
        assert isinstance(found, nn.ModuleList)
        return found

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """D, the width of a token."""
        return int(self.model.config.hidden_size)

    @property
    def widest(self) -> int:
        """Numbers that a token has where it has most: inside the MLP."""
        return max(linear.out_features for linear in self.layers[0].modules() if isinstance(linear, nn.Linear))

    @property
    def embedding_width(self) -> int:
        """Width of what the tower gives out."""
        return self.width

    def part(self, layer: nn.Module, name: str) -> Callable[..., Any]:
        """A part of a layer by its role ("norm1", "mlp", …); looked up anew, since methods may replace it."""
        found = [layer.get_submodule(path) for path in as_names(self.layout.parts.get(name, ()))]
        return found[0] if len(found) == 1 else partial(_one_by_one, found)

    def linear_paths(self, role: str, layers: Iterable[int] | None = None) -> list[str]:
        """Full names, in the model, of the linear maps with a role, layer by layer.

        Args:
            role: "q", "k", "v", "o", "fc1" or "fc2".
            layers: numbers of the layers; all where None.

        Raises:
            MmfuseError: the tower has no such role.
        """
        if role not in self.layout.roles:
            known = ", ".join(self.layout.roles)
            raise MmfuseError(
                f"the {self.kind} tower {self.name!r} has no linear map with role {role!r}; it has {known}"
            )
        chosen = range(self.depth) if layers is None else layers
        return [f"{self.layout.layers}.{index}.{path}" for index in chosen for path in self.layout.roles[role]]

    def attend(self, layer: nn.Module, hidden: Tensor, context: Context) -> Tensor:
        """A layer's own attention on tokens (N, S, D) that are normed already."""
        arguments = self._attention_arguments(hidden, context)
        attended = self.part(layer, "attention")(self._lowered(hidden), **arguments)
        return self.part(layer, "attention_output")(attended[0] if isinstance(attended, tuple) else attended)

    def _lowered(self, hidden: Tensor) -> Tensor:
        """What several linear maps read, in the type that autocast would give each of them anew."""
        kind = hidden.device.type
        if not (self.casts_once and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return hidden
        return hidden.to(torch.get_autocast_dtype(kind))

    def _attention_arguments(self, hidden: Tensor, context: Context) -> dict[str, Any]:
        """What the attention needs beside its input."""
        raise NotImplementedError

    def run_layers(self, tokens: Tensor, context: Context, *, first: int = 0, last: int | None = None) -> Tensor:
        """Tokens (N, S, D) through the layers `first` to `last`, the one after the end."""
        run = self._run_checkpointed if self.checkpointing and torch.is_grad_enabled() else self._run_layer
        for layer, sockets in list(zip(self.layers, self.sockets, strict=True))[first:last]:
            tokens = run(layer, sockets if self.enabled else _NO_SOCKETS, tokens, context)
        return tokens

    def conclude(self, tokens: Tensor, context: Context) -> Tensor:
        """What comes after the last layer: the final norm, where there is one."""
        if self.enabled:
            tokens = plug(self.leave, tokens, context)
        return self.model.get_submodule(self.layout.final_norm)(tokens) if self.layout.final_norm else tokens

    def _run_checkpointed(self, layer: nn.Module, sockets: Sockets, tokens: Tensor, context: Context) -> Tensor:
        """A layer whose activations are not kept for the gradients (Chen et al. 2016, gradient checkpointing)."""

        def run(tokens: Tensor) -> tuple[Tensor, int]:
            # A copy, since sockets count the tokens they insert, and the layer is run twice.
            own = replace(context)
            return self._run_layer(layer, sockets, tokens, own), own.special

        tokens, context.special = checkpoint(run, tokens, use_reentrant=False)
        return tokens

    @property
    def first_adapted_layer(self) -> int:
        """The first layer that a method or training can change; what enters it stays as it is. `depth` where none is.

        The method says which layers it changes. Weights that are trained without one, as after `unfreeze()`, and
        functions plugged in by hand count as well.
        """
        claimed = [] if self.method is None else [self.method.first_adapted_layer]
        trained = [self.layer_of(name) for name, weight in self.model.named_parameters() if weight.requires_grad]
        plugged = [index for index, sockets in enumerate(self.sockets) if sockets]
        entered = [0] if self.enter else []
        return min([self.depth, *claimed, *trained, *plugged, *entered])

    def layer_of(self, path: str) -> int:
        """The layer that a module or weight of the model belongs to: 0 before the layers, `depth` behind them."""
        prefix = f"{self.layout.layers}."
        if path.startswith(prefix):
            return int(path.removeprefix(prefix).split(".")[0])
        behind = (self.layout.final_norm, *self.readout, *self.unused)
        return self.depth if any(f"{path}.".startswith(f"{part}.") for part in behind) else 0

    def _run_layer(self, layer: nn.Module, sockets: Sockets, tokens: Tensor, context: Context) -> Tensor:
        tokens = plug(sockets.before, tokens, context)
        attend: Socket = partial(self.attend, layer)
        for wrapper in sockets.around_attention:
            attend = partial(wrapper, attend)
        attended = attend(tokens if self.post_norm else self.part(layer, "norm1")(tokens), context)
        tokens = tokens + plug(sockets.after_attention, self.part(layer, "scale1")(attended), context)
        hidden = self.part(layer, "norm1" if self.post_norm else "norm2")(tokens)
        branch = plug(sockets.after_mlp, self.part(layer, "scale2")(self.part(layer, "mlp")(hidden)), context)
        for socket in sockets.beside_mlp:
            branch = branch + socket(hidden, context)
        return self.part(layer, "norm2")(hidden + branch) if self.post_norm else tokens + branch

    def train(self, mode: bool = True) -> Tower:
        """Frozen parts stay in evaluation mode (no drop-out, no jittered positions); trained inserts follow `mode`."""
        super().train(mode)
        self.model.eval()
        for module in () if self.method is None else self.method.inserted:
            module.train(mode)
        return self

    @property
    def on_meta(self) -> bool:
        """Whether the weights have shapes only, and no values."""
        return self.pretrained[0].is_meta

    def try_out(self) -> Tensor:
        """The output for the smallest input, so that a fault shows at once."""
        raise NotImplementedError

    @property
    def enabled(self) -> bool:
        """Whether the method is on; see `disabled`."""
        return self._disabled == 0

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Run the tower as if it had no method: the frozen output, whatever was trained. May be nested.

        Nothing but the computation changes: which weights are trained, and the mode, are what the caller makes of them.
        """
        self._disabled += 1
        try:
            self._switch()
            yield
        finally:
            self._disabled -= 1
            self._switch()

    def refresh(self) -> None:
        """Let the method bring up to date what it keeps; comes before each forward pass."""
        if self.method is not None:
            self.method.refresh()

    def _switch(self) -> None:
        if self.method is not None:
            self.method.switch(self.enabled)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies are enabled, also one that was taken inside `disabled`, which nothing would enable again."""
        super().__setstate__(state)
        if not self.enabled:
            self._disabled = 0
            self._switch()

    def weights_fingerprint(self, *, dtype: torch.dtype | None = None) -> str:
        """SHA-256 of the pretrained weights' values, the same whatever names or file format they were stored under.

        Args:
            dtype: which the values are rounded to before they are hashed; by default none.
        """
        digests = []
        for tensor in self.pretrained:
            kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
            content = tensor.detach().cpu().to(kind).contiguous()
            digest = hashlib.sha256(f"{tuple(content.shape)}{content.dtype}".encode())
            digest.update(content.reshape(-1).view(torch.uint8).numpy().data)
            digests.append(digest.digest())
        return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _weights_by_place(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Every weight of a model once, as the module that holds it and its name there."""
    found = {
        id(weight): (module, name)
        for module in model.modules()
        for name, weight in module.named_parameters(recurse=False)
    }
    return list(found.values())


def _own_weight(module: nn.Module, name: str) -> Tensor:
    if parametrize.is_parametrized(module, name):
        return module.parametrizations[name].original  # type: ignore[index, union-attr]
    return getattr(module, name)


def _one_by_one(modules: Sequence[nn.Module], tokens: Tensor) -> Tensor:
    """Tokens through modules, one after the other; as they are where there is none."""
    for module in modules:
        tokens = module(tokens)
    return tokens


_NO_SOCKETS = Sockets()


def plug(sockets: list[Socket], tokens: Tensor, context: Context) -> Tensor:
    """Tokens through the functions at one place, one after the other."""
    for socket in sockets:
        tokens = socket(tokens, context)
    return tokens
