"""Classes that a test shares with the training, by their names; needs no pandas, as grids are read without."""

from __future__ import annotations

from collections.abc import Sequence

from mmfuse.data.class_subsets import same_classes


def overlapping(trained: Sequence[str], tested: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Classes that were trained on, each with the one to be tested that its name resembles."""
    return tuple((ours, theirs) for theirs, ours in same_classes(tested, trained))


def seen_classes(trained: str, tested: str, name: str, overlap: Sequence[tuple[str, str]]) -> str:
    """Why zero-shot classes are refused, and what to do."""
    told = ", ".join(f"{ours} ({theirs})" for ours, theirs in overlap[:3])
    more = f" and {len(overlap) - 3} more" if len(overlap) > 3 else ""
    return (
        f"zero-shot means classes that were never trained on, but {trained} has classes of {tested}: {told}{more}; "
        f"test without them by 'test_on: [{{name: {name}, drop_overlap: true}}]', or make it 'setting: few-shot'"
    )
