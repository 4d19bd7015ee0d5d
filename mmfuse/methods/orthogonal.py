"""Orthogonal methods, through huggingface/peft: frozen weights are turned, not added to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import peft
import torch
from peft.tuners.boft import layer as boft_layer

from mmfuse.encoders.tower import Tower
from mmfuse.methods.low_rank import PeftMethod
from mmfuse.methods.validation import at_least, target_names


class OFT(PeftMethod):
    """OFT (Qiu et al. 2023, eq. 4): each weight's input is turned by a block-diagonal orthogonal matrix, from identity.

    Args:
        tower: either tower.
        generator: not used, as the turn starts as none.
        block_size: side of a block; it must divide the width of every target's input.
        targets: roles of the linear maps.
        layers: numbers of the layers whose maps are adapted; all where None.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        block_size: int = 32,
        targets: Sequence[str] = ("q", "v"),
        layers: Sequence[int] | None = None,
    ) -> None:
        names = target_names(tower, targets, layers)
        check_blocks(tower, names, block_size)
        config = peft.OFTConfig(r=0, oft_block_size=block_size, target_modules=names)
        super().__init__(tower, generator=generator, config=config)


class BOFT(PeftMethod):
    """BOFT (Liu et al. 2024, eq. 3): OFT in small blocks, and a learned factor for each output.

    There is one butterfly factor: peft has more only where it can compile for CUDA, and elsewhere takes one in silence.

    Args:
        tower: either tower.
        generator: not used, as the turn starts as none.
        block_size: side of a block; even, and it must divide the width of every target's input.
        targets: roles of the linear maps.
        layers: numbers of the layers whose maps are adapted; all where None.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        block_size: int = 4,
        targets: Sequence[str] = ("q", "v"),
        layers: Sequence[int] | None = None,
    ) -> None:
        names = target_names(tower, targets, layers)
        check_blocks(tower, names, block_size)
        config = peft.BOFTConfig(
            boft_block_size=block_size, boft_block_num=0, boft_n_butterfly_factor=1, target_modules=names
        )
        with _nothing_compiled():
            super().__init__(tower, generator=generator, config=config)
        for name in names:
            tower.model.get_submodule(name).cayley_batch = _turns


def _turns(given: torch.Tensor) -> torch.Tensor:
    """Blocks (N, b, b) to rotations by Cayley's map: with S the skew part, (I − S)(I + S)⁻¹.

    peft's own asks the device after each solution whether there was one, and waits. There always is, since what is
    skew has imaginary eigenvalues only.
    """
    skew = 0.5 * (given - given.mT)
    unit = torch.eye(given.shape[-1], device=given.device, dtype=given.dtype)
    return torch.linalg.solve_ex(unit + skew, unit - skew, left=False).result


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Keep peft from compiling an extension for CUDA, anew for each layer: what it does for one factor is the same."""
    load = boft_layer.get_fbd_cuda
    boft_layer.get_fbd_cuda = lambda: None
    try:
        yield
    finally:
        boft_layer.get_fbd_cuda = load


def check_blocks(tower: Tower, names: Sequence[str], block_size: int) -> None:
    """Refuse a block that does not divide the inputs; peft would take another size in silence.

    Raises:
        ValueError: with the width at fault.
    """
    at_least("block_size", block_size, 2)
    for name in names:
        width = int(tower.model.get_submodule(name).in_features)
        if width % block_size:
            raise ValueError(f"block_size {block_size} does not divide the {width} inputs of {name}")
