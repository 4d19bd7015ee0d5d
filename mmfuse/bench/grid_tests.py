"""What a grid says of its tests, checked: `setting` and `test_on`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mmfuse.bench.class_overlap import overlapping, seen_classes
from mmfuse.bench.yaml_source import YamlSource
from mmfuse.data.catalogue.cards import card_names, load_card
from mmfuse.encoders.hub import apart
from mmfuse.errors import unknown
from mmfuse.records.cell import WITHOUT_TEXT, Dataset, Encoders, Fusion, Pair, Setting, Target
from mmfuse.records.evaluations import NOVEL, name_on
from mmfuse.records.fields import MOST_SHOTS, ShotsOrNone


class GridTests:
    """The tests of a grid's cells beside their main one.

    Args:
        source: the grid file, for the lines of faults.
        setting: what is tested.
        shots: numbers of training clips a class; 0 for towers as they were pretrained.
        repeats: the keys that list several draws or seeds.
        targets: the other data sets.
        datasets: what the cells train on.
        located: makes the paths of a data set absolute.

    Raises:
        MmfuseError: a setting that means nothing for these data sets; the line is named.
    """

    def __init__(
        self,
        source: YamlSource,
        *,
        setting: Setting,
        shots: Sequence[ShotsOrNone],
        repeats: Sequence[str],
        targets: tuple[Target, ...],
        datasets: tuple[Dataset, ...],
        located: Callable[[Target], Target],
    ) -> None:
        self._source, self._setting = source, setting
        self.untrained = 0 in shots
        if self.untrained:
            self._check_untrained(shots, repeats, tested=bool(targets))
        self._targets = [self._checked(target, at, located) for at, target in enumerate(targets)]
        for at, dataset in enumerate(datasets):
            self._check_dataset(dataset, at)

    def _checked(self, target: Target, at: int, located: Callable[[Target], Target]) -> Target:
        """A data set to test on with its place and splits filled in."""
        if target.own:
            if target.splits not in (None, (1,)):
                raise self._source.error(["test_on", at], f"{target.name} is your own and has split 1 only")
            return _with_splits(located(target), (1,))
        if target.name not in card_names():
            raise self._source.error(["test_on", at], str(unknown("data set", target.name, card_names())))
        official = tuple(load_card(target.name).splits) or (1,)
        for split in target.splits or ():
            if split not in official:
                known = ", ".join(map(str, official))
                raise self._source.error(["test_on", at], f"{target.name} has no split {split}; it has {known}")
        return _with_splits(target, target.splits or (official if self._setting == "zero-shot" else official[:1]))

    def _check_dataset(self, dataset: Dataset, at: int) -> None:
        """Refuse a data set whose cells would have nothing to test."""
        others = self.of(dataset)
        if self._targets and not others:
            problem = f"{dataset.name} would be tested on itself alone; name another data set"
            raise self._source.error(["test_on"], problem)
        if self._setting == "zero-shot" and not others and not self.untrained:
            problem = (
                "the zero-shot setting needs data sets to test on, such as 'test_on: [hmdb51]'; with 'shots: 0' towers "
                "that were trained together are tested as they are"
            )
            raise self._source.error(["setting"], problem)
        if self._setting == "base-to-novel" and dataset.train_lists:
            problem = "lists of all classes cannot be read in the base-to-novel setting; leave train_lists out"
            raise self._source.error(["datasets", at, "train_lists"], problem)
        if self._setting == "zero-shot":
            self._refuse_seen(dataset, others)
        names = Counter(name_on(target, split) for target in others for split in target.splits or ())
        names.update([NOVEL] if self._setting == "base-to-novel" else [])
        if names and (twice := names.most_common(1)[0])[1] > 1:
            problem = (
                f"two tests would be called {twice[0]!r}; name each split once, and data sets of your own otherwise"
            )
            raise self._source.error(["test_on"], problem)

    def _refuse_seen(self, dataset: Dataset, others: tuple[Target, ...]) -> None:
        """Refuse classes that were trained on, where the cards alone tell their names; the lists tell of the rest."""
        for target in others:
            if dataset.own or target.own or target.drop_overlap:
                continue
            trained, tested = load_card(dataset.name), load_card(target.name)
            if overlap := overlapping(trained.class_names, tested.class_names):
                problem = seen_classes(trained.title, tested.title, target.name, overlap)
                raise self._source.error(["test_on"], problem)

    def of(self, dataset: Dataset) -> tuple[Target, ...]:
        """What the cells of a data set are tested on besides: all targets but the data set itself."""
        return tuple(target for target in self._targets if (target.name, target.root) != (dataset.name, dataset.root))

    def _check_untrained(self, shots: Sequence[ShotsOrNone], repeats: Sequence[str], *, tested: bool) -> None:
        """Refuse what has no meaning where nothing is trained."""
        at: list[str | int] = ["shots", list(shots).index(0)]
        if self._setting != "zero-shot":
            told = f"shots are a number from 1 to {MOST_SHOTS:,}, or all; got 0, which trains nothing"
            raise self._source.error(at, f"{told}: that is for 'setting: zero-shot'")
        if len(shots) > 1:
            told = "K = 0 stands alone, as what is trained needs data sets to test on; make a grid of its own for it"
            raise self._source.error(at, f"{told}, which may share a results folder")
        if tested:
            told = "at K = 0 nothing was trained on, so every data set is tested by itself; list them under datasets"
            raise self._source.error(["test_on"], told)
        if repeats:
            told = "at K = 0 no clip is drawn and nothing is random, so that one of them says all"
            raise self._source.error([repeats[0]], told)

    def refuse_training(
        self, pairs: Sequence[Pair], encoders: Encoders, layers: Sequence[tuple[list[str | int], Any]]
    ) -> None:
        """Refuse what would train at K = 0, and towers that nothing ties together.

        Args:
            pairs: what is compared.
            encoders: their towers.
            layers: where settings are said, each with its place in the file.

        Raises:
            MmfuseError: naming the place.
        """
        if named := [pair.name for pair in pairs if not pair.frozen]:
            told = f"K = 0 trains nothing, so {named[0]!r} would be the frozen towers; the only pair is frozen+frozen"
            raise self._source.error(["pairs"], told)
        for place, layer in layers:
            for key in ("fusion", "train"):
                if key in layer.model_fields_set:
                    told = "K = 0 trains nothing: towers that were trained together are compared in their own space"
                    raise self._source.error([*place, key], f"{told}; leave this key out")
        if encoders.image != encoders.text:
            raise self._source.error(["encoders"], apart(encoders.image, encoders.text))

    def refuse_without_text(self, fusion: Fusion) -> None:
        """Refuse a fusion that can recognise the classes alone that it was trained on.

        Raises:
            MmfuseError: the grid tests others.
        """
        if fusion.kind not in WITHOUT_TEXT or not (self._targets or self._setting != "few-shot"):
            return
        what = "test_on" if self._setting == "few-shot" else "setting"
        problem = f"the fusion {fusion.kind!r} reads no text: it knows the classes alone that it was trained on"
        raise self._source.error([what], f"{problem}; take one that reads them, such as joint")


def _with_splits(target: Target, splits: tuple[int, ...]) -> Target:
    return target.model_copy(update={"splits": splits})
