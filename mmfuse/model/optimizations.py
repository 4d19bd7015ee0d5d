"""Switches of what is done to be fast. None of them changes a number beyond rounding, so none is part of a cell.

With one exception: drop-out draws other numbers for two chunks than for one batch, from the same generator.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from mmfuse.errors import MmfuseError, unknown


@dataclass(frozen=True)
class Optimizations:
    """Every optimisation with its switch; all off is the plain path that each of them must equal.

    Args:
        features: a frozen image tower looks at each view of a clip once for all cells, and its features are kept.
        frozen_prefix: the layers below the first trained one do the same, on a CPU and where their tokens fit the disk.
        compose: DoRA multiplies its weight once a batch, or chunk of one, instead of running beside the frozen one.
        merge: a test computes with weights into which the method is merged, where it can be.
        trim: prompts for a causal text tower are padded to the longest of them, not to the context length.
        chunks: on a CPU, a large batch is trained on and tested in chunks whose memory is used again.
        attention: on a CPU in bf16, the image tower's attention takes its gradients by products of matrices.
        one_cast: under autocast the input of an attention is cast once, and not for query, key and value each.
        unfilled: new memory is not filled with NaN before it is written, as torch does where it is deterministic, so
            that reads of unwritten memory show; nothing here reads any.
        compile: the image tower runs through `torch.compile`, which takes minutes before the first step of each cell;
            where torch gives up, the record notes it.
        checkpointing: the image tower keeps one layer's activations at a time and computes them again on the way back:
            less memory for about a third more time.
    """

    features: bool = True
    frozen_prefix: bool = True
    compose: bool = True
    merge: bool = True
    trim: bool = True
    chunks: bool = True
    attention: bool = True
    one_cast: bool = True
    unfilled: bool = True
    compile: bool = False
    checkpointing: bool = False

    @classmethod
    def parse(cls, switches: Iterable[str]) -> Optimizations:
        """Read `KEY=on` and `KEY=off`.

        Raises:
            MmfuseError: no such switch, or neither on nor off.

        >>> Optimizations.parse(["merge=off"]).merge
        False
        """
        names = [field.name for field in fields(cls)]
        chosen = {}
        for switch in switches:
            name, _, value = switch.partition("=")
            if name not in names:
                raise unknown("switch of --speed", name, names)
            if value not in {"on", "off"}:
                raise MmfuseError(f"--speed {name} is on or off, as in --speed {name}=off; got {switch!r}")
            chosen[name] = value == "on"
        return cls(**chosen)

    def changed(self) -> dict[str, bool]:
        """The switches that are not where they stand by default: what a record notes."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value != getattr(DEFAULT_OPTIMIZATIONS, name)}


DEFAULT_OPTIMIZATIONS = Optimizations()
"""Every switch where it stands by default."""
