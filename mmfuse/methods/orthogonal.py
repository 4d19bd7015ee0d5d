"""Orthogonal methods, through huggingface/peft: frozen weights are turned, not added to."""

from __future__ import annotations

from collections.abc import Sequence

import peft
import torch

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
        super().__init__(tower, generator=generator, config=config)


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
