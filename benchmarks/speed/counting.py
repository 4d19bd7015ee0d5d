"""Operations, bytes and kernels of a training step and of a frozen pass on a GPU, counted without one.

    python -m benchmarks.speed.counting [--pair IMAGE TEXT] [--size vit-s|vit-b] [--clips N] [--speed KEY=on|off]...
    python -m benchmarks.speed.counting --traffic IMAGE...

Prints JSON. Tensors have shapes, types and a pretended device, and no values (torch's fake tensors), so that a ViT-B is
counted in seconds on any machine. Autocast casts as it does on CUDA (`ATen/autocast_mode.h`), attention is the flash
kernel's. Each operator that computes something counts as one kernel that reads its inputs and writes its outputs once;
views count nothing. It runs as a program: a pretended device is registered for the whole life of a process.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from torch.utils.flop_counter import flop_registry

NAME = "pretended"
AUTOCAST = "AutocastPrivateUse1"
LOWERED = ("linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "conv1d", "conv2d", "conv3d", "_convolution")
"""Operators that autocast runs in bfloat16."""
IN_FULL = ("layer_norm", "nll_loss", "cosine_similarity", "logsumexp")
"""Those that it runs in 32 bits."""
IN_FULL_BY_ARGUMENT = {"softmax.int": 2, "log_softmax.int": 2, "sum": 1, "sum.dim_IntList": 3}
"""Those that are given a type, and the place of that argument among the ordered ones; `sum` by keyword."""
FREE = {"detach", "alias", "lift_fresh", "empty", "empty_strided", "empty_like", "new_empty", "device", "is_same_size"}
"""Operators that launch nothing, and are no views by their signature."""


class Backend:
    """What torch asks a kind of device for."""

    def device_count(self) -> int:
        """One."""
        return 1

    def is_available(self) -> bool:
        """Yes."""
        return True

    def is_initialized(self) -> bool:
        """Yes."""
        return True

    def current_device(self) -> int:
        """The only one."""
        return 0

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        """None to speak of."""
        return torch.zeros(0)

    def set_rng_state(self, *state: Any) -> None:
        """Nothing to keep."""

    def manual_seed_all(self, seed: int) -> None:
        """Nothing to seed."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """What autocast may lower to."""
        return [torch.bfloat16, torch.float16]

    def _is_in_bad_fork(self) -> bool:
        return False


@dataclass(frozen=True)
class Kernel:
    """One launch.

    Args:
        operator: by torch's name.
        phase: "forward", "backward" or "optimizer".
        flops: operations, two for each multiplication with addition; 0 where it is no product of matrices.
        bytes: read and written.
        lowered: whether it multiplies in 16 bits.
        cast: whether it does nothing but change the type.
    """

    operator: str
    phase: str
    flops: float
    bytes: float
    lowered: bool
    cast: bool


class Kernels(TorchDispatchMode):
    """Notes each operator that computes something."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = "forward"
        self.seen: list[Kernel] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = operator(*args, **kwargs)
        name = operator.overloadpacket.__name__
        if name not in FREE and not _is_view(operator):
            self.seen.append(self._kernel(operator, name, args, kwargs, out))
        return out

    def _kernel(self, operator: Any, name: str, args: Any, kwargs: Any, out: Any) -> Kernel:
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        made = [one for one in tree_leaves(out) if isinstance(one, torch.Tensor)]
        count = flop_registry.get(operator.overloadpacket)
        written = 0.0 if name.endswith("_") else sum(map(_bytes, made))  # in place: the input is written again
        moved = sum(map(_bytes, given)) + (written or sum(map(_bytes, given[:1])))
        return Kernel(
            name,
            self.phase,
            float(count(*args, **kwargs, out_val=out)) if count is not None else 0.0,
            float(moved),
            any(one.dtype in (torch.bfloat16, torch.float16) for one in given),
            name in ("_to_copy", "to") and bool(given) and given[0].dtype != made[0].dtype,
        )


def _is_view(operator: Any) -> bool:
    """Whether the output is the input seen otherwise; in-place operators write what they alias."""
    aliases = [one.alias_info for one in operator._schema.returns if one.alias_info is not None]
    return bool(aliases) and not any(alias.is_write for alias in aliases)


def _bytes(tensor: torch.Tensor) -> float:
    """What of a tensor lies in memory: an expanded dimension lies there once."""
    sizes = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0]
    return float(math.prod(sizes) * tensor.element_size())


# -- the pretended device --------------------------------------------------------------------------------------------


def pretend() -> None:
    """Register the device, once in a process."""
    _setup_privateuseone_for_python_backend(NAME, Backend())


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype != dtype else value
    return type(value)(_cast(one, dtype) for one in value) if isinstance(value, list | tuple) else value


def _without_autocast() -> Any:
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1))


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Let autocast of the pretended device cast what CUDA's does, and attention be the flash kernel."""
    rest, library = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    rest.fallback(torch.library.fallthrough_kernel, AUTOCAST)
    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def lowered(value: Any) -> Any:
        """Trained weights are cast once a step, as autocast's cache does."""
        if not isinstance(value, torch.Tensor) or not (value.is_leaf and value.requires_grad):
            return _cast(value, torch.bfloat16)
        if id(value) not in kept:
            kept[id(value)] = (value, _cast(value, torch.bfloat16))
        return kept[id(value)][1]

    def add(name: str, dtype: torch.dtype) -> None:
        packet, _, overload = name.partition(".")
        operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
        change = lowered if dtype == torch.bfloat16 else lambda value: _cast(value, dtype)

        def run(*args: Any, **kwargs: Any) -> Any:
            with _without_autocast():
                return operator(*map(change, args), **{key: change(value) for key, value in kwargs.items()})

        library.impl(name, run, AUTOCAST)

    for name in LOWERED:
        add(name, torch.bfloat16)
    for name in (*IN_FULL, *IN_FULL_BY_ARGUMENT):
        add(name, torch.float32)
    library.impl("scaled_dot_product_attention", _flash, AUTOCAST)
    try:
        yield
    finally:
        kept.clear()
        library._destroy()
        rest._destroy()


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Attention by one kernel each way. A mask is left out: it changes neither operations nor launches."""
    with _without_autocast():
        parts = [_cast(one, torch.bfloat16) for one in (query, key, value)]
        out: torch.Tensor = torch.ops.aten._scaled_dot_product_flash_attention(
            *parts, dropout_p, is_causal, scale=scale
        )[0]
        return out


def on_device(model: Any, mode: FakeTensorMode) -> Any:
    """A recogniser on the pretended device, as `to` would have it: the values are left behind."""
    from mmfuse.encoders.text import Prompts

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=NAME)

    for module in model.modules():
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                module._parameters[name] = nn.Parameter(fake(weight), requires_grad=weight.requires_grad)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = fake(buffer)
    model._device = torch.device(NAME, 0)
    model.prompts._prompts = [
        Prompts(mode.from_tensor(part.ids), mode.from_tensor(part.last)) for part in model.prompts._prompts
    ]
    return model


# -- what is counted ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted:
    """A training step, and a pass of the image tower without gradients, on as many clips.

    Args:
        step: kernels of forward, backward and optimiser.
        frozen: kernels of the pass.
    """

    step: list[Kernel]
    frozen: list[Kernel]


def count(model: Any, *, clips: int, frames: int, side: int, autocast: bool = True) -> Counted:
    """Count both for a recogniser whose weights are on any device, `meta` included.

    Args:
        model: the recogniser; it is of no use afterwards.
        clips, frames, side: shape of a batch.
        autocast: to bfloat16; else everything is counted in 32 bits.
    """
    mode, kernels = FakeTensorMode(), Kernels()
    # The thread that autograd keeps for a device has crashed when it freed fake tensors.
    with torch.autograd.set_multithreading_enabled(False), as_on_cuda(), mode:
        on_device(model, mode).train()
        video = torch.zeros(clips, frames, 3, side, side, dtype=torch.uint8, device=NAME)
        labels = torch.zeros(clips, dtype=torch.int64, device=NAME)
        optimizer, _ = model.optimizer_and_schedule(steps=10, fused=True)  # as on a GPU
        with kernels, torch.autocast(NAME, torch.bfloat16, enabled=autocast):
            loss = model.loss({"video": video, "label": labels})
        kernels.phase = "backward"
        with kernels:
            loss.backward()
        kernels.phase = "optimizer"
        optimizer.step()  # which makes its state
        with kernels:
            optimizer.step()
        step, kernels.seen, kernels.phase = kernels.seen, [], "forward"
        lowered = torch.autocast(NAME, torch.bfloat16, enabled=autocast)
        with model.image_tower.disabled(), torch.no_grad(), kernels, lowered:
            model.image_tower.eval()(video)
    return Counted(step, kernels.seen)


def summed(kernels: Sequence[Kernel]) -> dict[str, float]:
    """Sums over kernels, by which a step is described in a line."""
    return {
        "kernels": len(kernels),
        "casts": sum(one.cast for one in kernels),
        "tflops": sum(one.flops for one in kernels) / 1e12,
        "gigabytes": sum(one.bytes for one in kernels) / 1e9,
        "gigabytes_of_casts": sum(one.bytes for one in kernels if one.cast) / 1e9,
    }


def traffic(image: str) -> dict[str, float]:
    """What one layer of an image tower moves besides its products, in bytes for each token and channel.

    From the difference of towers with two layers and with four, ViT-B's width, 224 pixels, bfloat16.

    Returns:
        `frozen`, of a pass without gradients, and `step`, of a forward and a backward with the method.
    """
    from benchmarks.speed.steps import FRAMES, SIZE, recognizer

    clips, tokens, width = 2, 257, 768
    found: dict[int, dict[str, float]] = {}
    for depth in (2, 4):
        model = recognizer("vit-b", image, depth=depth)
        counted = count(model, clips=clips, frames=FRAMES, side=SIZE)
        parts = {"step": [one for one in counted.step if one.phase != "optimizer"], "frozen": counted.frozen}
        found[depth] = {part: sum(one.bytes for one in kernels if not one.flops) for part, kernels in parts.items()}
    each = (4 - 2) * clips * FRAMES * tokens * width
    return {part: (found[4][part] - found[2][part]) / each for part in found[2]}


def main(given: Sequence[str]) -> None:
    """Count one model, or the traffic of image methods, and print it as JSON."""
    from benchmarks.speed.steps import FRAMES, SIZE, recognizer
    from mmfuse.model.optimizations import Optimizations

    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.counting", description=__doc__)
    parser.add_argument("--pair", nargs=2, default=("dora", "adapter"), metavar=("IMAGE", "TEXT"))
    parser.add_argument("--size", choices=("vit-s", "vit-b"), default="vit-b")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--speed", action="append", default=[], metavar="KEY=on|off")
    parser.add_argument("--traffic", nargs="+", metavar="IMAGE", help="bytes for each token and channel, by method")
    wishes = parser.parse_args(given)
    pretend()
    if wishes.traffic:
        print(json.dumps({image: traffic(image) for image in wishes.traffic}))
        return
    image, text = wishes.pair
    model = recognizer(wishes.size, image, text_method=text, optimizations=Optimizations.parse(wishes.speed))
    counted = count(model, clips=wishes.clips, frames=FRAMES, side=SIZE)
    lists = {"step": counted.step, "frozen": counted.frozen}
    print(json.dumps({name: [asdict(one) for one in kernels] for name, kernels in lists.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
