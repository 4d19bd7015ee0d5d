"""One's own clips divided into training and test, so that whole sources stand on one side.

A source is what several clips were cut from; clips that show the same frames are of one source too, whatever they are
called. Which sources the test takes depends on a hash of (data set, seed, source) alone, not on the order of files, and
on the number of their clips: every class comes as close to the wanted share as its sources allow.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmfuse.data.catalogue.same_frames import Same, find_same_frames
from mmfuse.data.catalogue.sources import NONE, sources_of
from mmfuse.data.frames.video import Damaged
from mmfuse.errors import MmfuseError

_TRIES = 20
"""Orders of the sources that are tried where a class is left out of one side."""
_SHOWN = 3
_LEFT_OUT = 10.0
"""What a class without clips on one side weighs; any distance from the share weighs less than 1."""
_MOST_PAIRS = 200_000

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Division:
    """Clips for training and clips for the test."""

    train: pd.DataFrame
    """Rows as they were given, with `group`, the source of each clip."""
    test: pd.DataFrame
    groups: int
    """Number of sources."""
    notes: tuple[str, ...]
    """How the sources were found, and what a user should know of them."""


def divide(
    clips: pd.DataFrame,
    *,
    test: float,
    name: str,
    groups: str | None = None,
    seed: int = 0,
    frames: bool = True,
    damaged: Damaged = "error",
    workers: int = 1,
    report: Report | None = None,
) -> Division:
    """Divide clips into training and test by source.

    Args:
        clips: a row each, with `clip` (its path as given), `class`, `path` (where it lies) and perhaps `group`; as
            `mmfuse.data.catalogue.undivided.read_undivided` gives them.
        test: the share of the test in each class, above 0 and below 1.
        name: of the data set; other names give other divisions.
        groups: a regular expression with one group in parentheses that finds the source in a clip's path; "none" for
            no look at names; `None` for what is recognised. Given sources (`group`) need none.
        seed: other seeds give other divisions.
        frames: look for clips that show the same frames, which decodes all of them.
        damaged: what to do with damaged videos: "error", or "keep" the frames that can be read.
        workers: processes that decode.
        report: told (clips decoded, clips in all).

    Raises:
        MmfuseError: a share that is none, a wrong pattern, a video that cannot be read, a class whose clips are all of
            one source, or sources that cannot be parted so that every class is on both sides.
    """
    if not 0 < test < 1:
        raise MmfuseError(f"the share of the test lies above 0 and below 1, such as 0.2; got {test}")
    clips = clips.sort_values(["class", "clip"], kind="stable", ignore_index=True)
    found = sources_of(clips, groups)
    sources, notes, same = found.groups, list(found.notes), []
    if frames:
        same = _same_frames(clips, damaged=damaged, workers=workers, report=report)
        notes += _told_of_same(same, clips, sources)
        sources = _joined(sources, same)
    _refuse_single(clips, sources, same=same, named=found.groups)
    in_test = _chosen(clips["class"].tolist(), sources, test=test, key=f"{name}\0{seed}")
    whole = clips.assign(group=sources)
    parts = [whole[in_test == part].reset_index(drop=True) for part in (False, True)]
    notes += _told_of_shares(clips["class"], in_test, test)
    return Division(parts[0], parts[1], len(set(sources)), tuple(notes))


# --- the same frames ----------------------------------------------------------------------------------------------


def _same_frames(clips: pd.DataFrame, *, damaged: Damaged, workers: int, report: Report | None) -> list[Same]:
    looked = find_same_frames(clips["path"].tolist(), damaged=damaged, workers=workers, report=report)
    if looked.unreadable:
        row, why = next(iter(looked.unreadable.items()))
        others = f" ({len(looked.unreadable) - 1:,} more clips too)" if len(looked.unreadable) > 1 else ""
        raise MmfuseError(
            f"{clips['path'][row]}: {why}{others}; mend it or take it out, or keep what can be read (--damaged keep)"
        )
    return looked.same


def _told_of_same(same: Iterable[Same], clips: pd.DataFrame, sources: Sequence[str]) -> list[str]:
    """What the same frames tell: copies between sources, and copies with two labels."""
    names, classes = clips["clip"].tolist(), clips["class"].tolist()
    apart = [pair for pair in same if sources[pair.first] != sources[pair.second]]
    labels = [pair for pair in same if classes[pair.first] != classes[pair.second]]
    notes = []
    if apart:
        notes.append(
            f"{_pairs(apart)} of clips with the same frames under names that tell of no common source, such as "
            f"{_shown(apart, names)}: kept on one side"
        )
    if labels:
        notes.append(
            f"{_pairs(labels)} of clips with the same frames have two labels, such as {_shown(labels, names)}: one of "
            "the labels may be wrong"
        )
    return notes


def told_of_leaks(same: Sequence[Same], clips: pd.DataFrame) -> list[str]:
    """What the same frames tell of clips that are divided already: copies in both lists, and copies with two labels.

    Args:
        same: pairs of rows.
        clips: rows with `clip`, `class` and `part`.
    """
    names, classes, parts = (clips[column].tolist() for column in ("clip", "class", "part"))
    both = [pair for pair in same if parts[pair.first] != parts[pair.second]]
    labels = [pair for pair in same if classes[pair.first] != classes[pair.second]]
    notes = []
    if both:
        notes.append(
            f"{_pairs(both)} of training and test clips with the same frames, such as {_shown(both, names)}: the test "
            "is easier than on new clips"
        )
    if labels:
        notes.append(f"{_pairs(labels)} of clips with the same frames have two labels, such as {_shown(labels, names)}")
    return notes


def _pairs(same: Sequence[Same]) -> str:
    return f"{len(same):,} pair{'s' * (len(same) != 1)}"


def _shown(same: Sequence[Same], names: Sequence[str]) -> str:
    return ", ".join(
        f"{names[pair.first]} and {names[pair.second]}{' (mirrored)' * pair.mirrored}" for pair in same[:_SHOWN]
    )


def _joined(sources: Sequence[str], same: Iterable[Same]) -> list[str]:
    """The sources once those with the same frames are one, which carries the name that is first in order."""
    first: dict[str, str] = {}

    def root(source: str) -> str:
        while (before := first.get(source, source)) != source:
            source = before
        return source

    for pair in same:
        one, other = sorted((root(sources[pair.first]), root(sources[pair.second])))
        first[other] = one
    return [root(source) for source in sources]


# --- parting ------------------------------------------------------------------------------------------------------


def _refuse_single(clips: pd.DataFrame, sources: Sequence[str], *, same: Sequence[Same], named: Sequence[str]) -> None:
    """Refuse a class of one source; `named` are the sources before clips with the same frames were joined."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(clips["class"]):
        rows_of[name].append(row)
    alone = [name for name, rows in rows_of.items() if len({sources[row] for row in rows}) < 2]
    if not alone:
        return
    rows, names = rows_of[alone[0]], clips["clip"].tolist()
    others = len(alone) - 1
    more = f" (and of {others} more class{'es' * (others > 1)})" if others else ""
    told = f"groups that cannot be parted: all {len(rows)} clips of {alone[0]!r}{more} are of one source, "
    if len({named[row] for row in rows}) < 2:
        raise MmfuseError(
            f"{told}{sources[rows[0]]!r}, such as {names[rows[0]]} and {names[rows[-1]]}, which cannot be in training "
            f"and in test; add clips of another source, or name the sources otherwise (--groups PATTERN or {NONE})"
        )
    pairs = [pair for pair in same if sources[pair.first] == sources[rows[0]]]
    raise MmfuseError(
        f"{told}since they show the same frames, such as {_shown(pairs[:1], names)}, and cannot be in training and in "
        "test; add other clips, or leave the frames out of it (--no-frames)"
    )


def _chosen(classes: Sequence[str], sources: Sequence[str], *, test: float, key: str) -> NDArray[np.bool_]:
    """Which clips are for the test, (clips,)."""
    labels = {name: label for label, name in enumerate(sorted(set(classes)))}
    for trial in range(_TRIES):
        order = sorted(set(sources), key=lambda source: _hash(f"{key}\0{trial}\0{source}"))
        places = {source: place for place, source in enumerate(order)}
        counts = np.zeros((len(order), len(labels)), dtype=np.int64)
        for name, source in zip(classes, sources, strict=True):
            counts[places[source], labels[name]] += 1
        chosen = _Parting(counts, test).search()
        if chosen is not None:
            return np.array([chosen[places[source]] for source in sources])
    tied = sorted({name for name, source in zip(classes, sources, strict=True) if sources.count(source) > 1})
    raise MmfuseError(
        "groups that cannot be parted: no choice of sources leaves clips of every class on both sides, since sources "
        f"have clips of several classes ({', '.join(tied[:_SHOWN])}); add clips, or name the sources otherwise by "
        "--groups"
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class _Parting:
    """The search for sources whose clips make up the wanted share of every class.

    What is made small is the sum over classes of ((clips in the test - wanted) / clips)², with a high price for a class
    that is not on both sides. It begins with the sources in their order, then moves and swaps them as long as that
    helps; among equals the first in order is taken.

    Args:
        counts: clips by source and class, (sources, classes).
        share: of the test.
    """

    def __init__(self, counts: NDArray[np.int64], share: float) -> None:
        self._counts = counts
        self._all = counts.sum(axis=0)
        self._wanted = share * self._all

    def search(self) -> NDArray[np.bool_] | None:
        """Which sources are for the test, (sources,); `None` where a class is left out of one side."""
        chosen = np.zeros(len(self._counts), dtype=bool)
        taken = np.zeros_like(self._all)
        for source, clips in enumerate(self._counts):
            if self._cost(taken + clips) < self._cost(taken):
                chosen[source] = True
                taken = taken + clips
        while (better := self._moved(chosen)) is not None or (better := self._swapped(chosen)) is not None:
            chosen = better
        return None if self._cost(self._taken(chosen)) >= _LEFT_OUT else chosen

    def _taken(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        taken: NDArray[np.int64] = self._counts[chosen].sum(axis=0)
        return taken

    def _cost(self, taken: NDArray[np.int64]) -> NDArray[np.float64]:
        """What is made small, for clips in the test by class, (..., classes)."""
        apart = (((taken - self._wanted) / self._all) ** 2).sum(axis=-1)
        left_out = ((taken == 0) | (taken == self._all)).sum(axis=-1)
        # Rounded, so that sums in another order on another machine choose alike.
        cost: NDArray[np.float64] = np.round(apart + _LEFT_OUT * left_out, 9)
        return cost

    def _moved(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """With the one source moved that helps most; `None` where none helps."""
        taken = self._taken(chosen)
        costs = self._cost(taken + np.where(chosen[:, None], -self._counts, self._counts))
        best = int(costs.argmin())
        if costs[best] >= self._cost(taken):
            return None
        moved = chosen.copy()
        moved[best] = not moved[best]
        return moved

    def _swapped(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """With the pair of sources swapped that helps most, among those of classes that are off; `None`: none does."""
        taken = self._taken(chosen)
        off = np.argsort(-np.abs(taken - self._wanted) / self._all, kind="stable")
        for label in off.tolist():
            of_class = self._counts[:, label] > 0
            sides = (self._different(of_class & chosen), self._different(of_class & ~chosen))
            pairs = np.array(list(itertools.islice(itertools.product(*sides), _MOST_PAIRS)))
            if not len(pairs):
                continue
            costs = self._cost(taken - self._counts[pairs[:, 0]] + self._counts[pairs[:, 1]])
            best = int(costs.argmin())
            if costs[best] < self._cost(taken):
                swapped = chosen.copy()
                swapped[pairs[best]] = ~swapped[pairs[best]]
                return swapped
        return None

    def _different(self, among: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The first of those sources that have the same numbers of clips of each class, in their order."""
        places = np.flatnonzero(among)
        first = np.unique(self._counts[places], axis=0, return_index=True)[1]
        return places[np.sort(first)]


def _told_of_shares(classes: pd.Series[str], in_test: NDArray[np.bool_], test: float) -> list[str]:
    """Classes whose share is far from the wanted one, since their sources are few or uneven."""
    shares = pd.Series(in_test).groupby(classes.to_numpy()).agg(["mean", "size"])
    # One clip more or fewer is as close as whole clips come.
    far = shares[(shares["mean"] - test).abs() > np.maximum(0.1, 1.0 / shares["size"])]
    if far.empty:
        return []
    worst = str((far["mean"] - test).abs().idxmax())
    return [
        f"{len(far)} class{'es' * (len(far) != 1)} could not come close to {test:.0%} in whole sources, such as "
        f"{worst!r} with {far['mean'][worst]:.0%} of its clips in the test"
    ]
