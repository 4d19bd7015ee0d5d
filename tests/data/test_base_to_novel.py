"""Halves of the classes: ours, certified by counts on the official lists, and those of published lists."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mmfuse.data import base_to_novel
from mmfuse.data.base_to_novel import base_clips, part_of
from mmfuse.data.cache.plan import ClipSelection, store_contents
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.data.class_subsets import half_of, same_classes, with_classes
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.data.few_shot import draw_clips
from mmfuse.data.protocols import BaseToNovel, ListFile, Protocol
from mmfuse.errors import MmfuseError
from tests.data.official import ANNOTATIONS, needs_official_lists


@pytest.fixture
def tiny() -> Catalogue:
    return load_catalogue("tiny")


def test_halves_are_disjoint_whole_and_keep_the_draws(tiny: Catalogue) -> None:
    base, novel = part_of(tiny, "base"), part_of(tiny, "novel")
    assert not set(base.class_names) & set(novel.class_names)
    assert set(base.class_names) | set(novel.class_names) == set(tiny.class_names)
    for half in (base, novel):
        assert sorted(set(half.table["label"])) == list(range(len(half.class_names)))
        named = dict(zip(half.table["label"], half.table["class"], strict=True))
        assert [named[label] for label in sorted(named)] == list(half.class_names)
        for draw in (0, 1):
            ours = draw_clips(half, shots=4, draw=draw)
            whole = draw_clips(tiny, shots=4, draw=draw)
            assert set(ours["clip"]) == set(whole["clip"][whole["class"].isin(half.class_names)])


COUNTS = {"ucf101": (51, 50, 1931, 1852), "hmdb51": (26, 25, 780, 750), "diving48": (24, 23, 1022, 948)}


@needs_official_lists
@pytest.mark.parametrize("name", COUNTS)
def test_halves_of_the_official_lists_are_these(name: str) -> None:
    whole = load_catalogue(name, annotations=ANNOTATIONS)
    base, novel = part_of(whole, "base"), part_of(whole, "novel")
    found = (len(base.class_names), len(novel.class_names), len(base.part("test")), len(novel.part("test")))
    assert found == COUNTS[name]
    digest = hashlib.sha256("\0".join(base.class_names).encode()).hexdigest()[:12]
    assert digest == {"ucf101": "86e772b3cf42", "hmdb51": "0df60009d3db", "diving48": "5b35d93a8171"}[name]


def test_classes_that_are_not_there_or_too_few_are_refused(tiny: Catalogue) -> None:
    with pytest.raises(MmfuseError, match="no class 'Grows'"):
        with_classes(tiny, {"Grows", "Grow"})
    with pytest.raises(MmfuseError, match="at least two classes"):
        with_classes(tiny, {"Grow"})
    with pytest.raises(MmfuseError, match="'base' or 'novel'; got 'bas'"):
        FewShotVideoDataModule("tiny", shots=2, classes="bas")  # type: ignore[arg-type]


def test_data_without_training_clips_can_be_tested_and_not_trained_on() -> None:
    data = FewShotVideoDataModule("tiny", shots=0, classes="novel")
    assert data.certified
    assert (len(data.train_clips), len(data.test_clips)) == (0, 120)
    with pytest.raises(MmfuseError, match="no clips to train on"):
        data.train_dataloader()
    with pytest.raises(MmfuseError, match="shots"):
        FewShotVideoDataModule("tiny", shots=False)


@pytest.fixture
def published(tiny: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Catalogue, list[str]]:
    """Lists that number their classes backwards, as another protocol might have them."""
    base = sorted(tiny.class_names)[:5]
    novel = [name for name in tiny.class_names if name not in base]

    def written(name: str, rows: list[tuple[str, int]]) -> ListFile:
        content = "".join(f"{clip}.mp4 {label}\n" for clip, label in rows)
        (tmp_path / name).write_text(content)
        return ListFile(file=f"lists/{name}", sha256=hashlib.sha256(content.encode()).hexdigest(), clips=len(rows))

    def rows(part: str, names: list[str], most: int | None = None) -> list[tuple[str, int]]:
        table = tiny.part(part)
        return [
            (clip, len(names) - 1 - at)
            for at, name in enumerate(names)
            for clip in table["clip"][table["class"] == name][:most]
        ]

    lists = BaseToNovel(
        shots=2,
        train=(written("s1.txt", rows("train", base, 2)), written("s2.txt", rows("train", base, 3))),
        base=written("base.txt", rows("test", base)),
        novel=written("novel.txt", rows("test", novel)),
    )
    made = Protocol(
        name="p", title="P", source="", repository="o/r", commit="0" * 40, licence="", base_to_novel={"tiny": lists}
    )
    monkeypatch.setattr(base_to_novel, "load_protocol", lambda name: made)
    return load_catalogue("tiny", annotations=tmp_path), base


def test_published_halves_are_read_whatever_their_numbers(published: tuple[Catalogue, list[str]]) -> None:
    whole, base = published
    part = part_of(whole, "base", protocol="p")
    assert set(part.class_names) == set(base)
    assert set(part_of(whole, "novel", protocol="p").class_names) == set(whole.class_names) - set(base)
    rows = base_clips(whole, part, shots=2, draw=0, protocol="p")
    assert len(rows) == 10
    assert [part.class_names[label] for label in rows["label"]] == rows["class"].tolist()
    with pytest.raises(MmfuseError, match="not 2 clips of each of the 5 base classes"):
        base_clips(whole, part, shots=2, draw=1, protocol="p")
    with pytest.raises(MmfuseError, match="draws 0 to 1"):
        base_clips(whole, part, shots=2, draw=2, protocol="p")


def test_a_half_that_lacks_test_clips_is_refused(
    published: tuple[Catalogue, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = published
    path = whole.places[0] / "novel.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(MmfuseError, match=r"the list novel\.txt of P was not found"):
        part_of(whole, "novel", protocol="p")
    monkeypatch.setattr(base_to_novel, "find_list", lambda wanted, places, protocol: path)
    with pytest.raises(MmfuseError, match="does not hold all test clips"):
        part_of(whole, "novel", protocol="p")


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("HorseRiding", "ride_horse", True),
        ("Pullup", "PullUps", True),
        ("golf", "GolfSwing", True),
        ("Running", "run", True),
        ("draw_sword", "draw_bow", False),
        ("stand", "sit", False),
        ("日本", "走る", False),
    ],
)
def test_classes_are_the_same_by_their_words(ours: str, theirs: str, same: bool) -> None:
    assert bool(same_classes([ours], [theirs])) is same
    assert bool(same_classes([theirs], [ours])) is same


def test_every_class_is_the_same_as_itself(tiny: Catalogue) -> None:
    assert same_classes(tiny.class_names, tiny.class_names) == [(name, name) for name in tiny.class_names]
    assert half_of(tiny, "base") == half_of(tiny, "base")


def test_a_clip_store_is_to_hold_what_a_published_base_list_trains_on(published: tuple[Catalogue, list[str]]) -> None:
    whole, _ = published
    selection = ClipSelection("here", 2, 0, protocol="p", classes="base", test_clips=1)
    [contents] = store_contents([selection], folder=Path("kept"), catalogue_of=lambda _: whole)
    wanted = {want.clip for want in contents.wanted}
    trained = base_clips(whole, part_of(whole, "base", protocol="p"), shots=2, draw=0, protocol="p")
    assert wanted == {*trained["clip"], *whole.part("test")["clip"]}
