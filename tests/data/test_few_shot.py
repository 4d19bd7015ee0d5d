"""Draws are nested, exact, group-aware, the same everywhere, and the certified ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfuse.data import few_shot
from mmfuse.data.catalogue.cards import DataCard, card_names
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.data.few_shot import (
    CERTIFIED_DRAWS,
    CERTIFIED_SHOTS,
    certificate_of,
    certify,
    draw_clips,
    fingerprint,
    hold_out,
)
from mmfuse.errors import MmfuseError
from tests.data.official import ANNOTATIONS, SPLITS, needs_official_lists


def catalogue_of(rows: list[tuple[str, int, str]], *, name: str = "made", classes: int = 3) -> Catalogue:
    """A catalogue with training rows (clip, label, group) and one test clip a class."""
    names = tuple(f"class {number}" for number in range(classes))
    table = pd.DataFrame(
        [(clip, label, names[label], group, "train", f"{clip}.mp4") for clip, label, group in rows]
        + [
            (f"test {label}", label, names[label], f"test {label}", "test", f"test{label}.mp4")
            for label in range(classes)
        ],
        columns=["clip", "label", "class", "group", "part", "path"],
    )
    return Catalogue(name, 1, DataCard(name, name, names, names), table)


def clips_of(sizes: list[list[int]]) -> list[tuple[str, int, str]]:
    """Rows for classes given as the sizes of their groups."""
    return [
        (f"v{label}_{group}_{number}", label, f"g{label}_{group}")
        for label, groups in enumerate(sizes)
        for group, size in enumerate(groups)
        for number in range(size)
    ]


groupings = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=6), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(sizes=groupings, number=st.integers(0, 50), data=st.data())
def test_laws_of_a_draw(sizes: list[list[int]], number: int, data: st.DataObject) -> None:
    rows = clips_of(sizes)
    catalogue = catalogue_of(rows)
    smallest = min(sum(groups) for groups in sizes)
    shots = data.draw(st.integers(1, smallest))
    drawn = draw_clips(catalogue, shots=shots, draw=number)
    assert drawn["label"].value_counts().to_dict() == dict.fromkeys(range(3), shots)
    assert drawn["clip"].is_unique
    assert set(drawn["part"]) == {"train"}
    for label, groups in enumerate(sizes):
        # As many different sources as there are; then each source twice before any is taken three times, and so on.
        taken = drawn.loc[drawn["label"] == label, "group"].value_counts().to_dict()
        assert len(taken) == min(shots, len(groups))
        for group, size in enumerate(groups):
            least = max(taken.values()) - 1
            assert taken.get(f"g{label}_{group}", 0) >= min(size, least)
    fewer = data.draw(st.integers(1, shots))
    assert set(draw_clips(catalogue, shots=fewer, draw=number)["clip"]) <= set(drawn["clip"])
    shuffled = catalogue_of(data.draw(st.permutations(rows)))
    assert draw_clips(shuffled, shots=shots, draw=number)["clip"].tolist() == drawn["clip"].tolist()


def test_the_order_is_that_of_the_hash_alone() -> None:
    """Written out once more by hand: what another implementation would have to do to give the same clips."""
    catalogue = catalogue_of(clips_of([[3, 2, 2], [4, 1], [1, 1, 1]]))

    def key(clip: str) -> str:
        return hashlib.sha256(f"made\x001\x007\0{clip}".encode()).hexdigest()

    first_of_each = {}
    for clip in sorted((c for c, label, _ in clips_of([[3, 2, 2]]) if label == 0), key=key):
        first_of_each.setdefault(clip.split("_")[1], clip)
    drawn = draw_clips(catalogue, shots=3, draw=7)
    assert drawn.loc[drawn["label"] == 0, "clip"].tolist() == sorted(first_of_each.values(), key=key)


def test_draws_splits_and_names_give_other_clips() -> None:
    catalogue = catalogue_of(clips_of([[1] * 40] * 3))
    base = draw_clips(catalogue, shots=8, draw=0)
    for other in (
        draw_clips(catalogue, shots=8, draw=1),
        draw_clips(dataclasses.replace(catalogue, split=2), shots=8, draw=0),
        draw_clips(dataclasses.replace(catalogue, name="other"), shots=8, draw=0),
    ):
        assert 0 < len(set(base["clip"]) & set(other["clip"])) < 16


def test_every_clip_at_all_shots() -> None:
    catalogue = catalogue_of(clips_of([[3, 2], [1], [4]]))
    assert len(draw_clips(catalogue, shots="all", draw=0)) == 10
    assert fingerprint(draw_clips(catalogue, shots="all", draw=0)) == fingerprint(
        draw_clips(catalogue, shots="all", draw=5)
    )


def test_too_many_shots_name_the_smallest_class() -> None:
    catalogue = catalogue_of(clips_of([[3, 2], [1], [2]]))
    with pytest.raises(
        MmfuseError,
        match=r"no 3 training clips .* 'class 1' has 1 \(1 more classes have too few\); shots can be at most 1",
    ):
        draw_clips(catalogue, shots=3, draw=0)
    with pytest.raises(MmfuseError, match="'class 2' has 0"):
        draw_clips(catalogue_of(clips_of([[1], [1]])), shots=1, draw=0)


@pytest.mark.parametrize(
    "wrong",
    [{"shots": 0}, {"shots": -1}, {"shots": "most"}, {"shots": True}, {"shots": 2.0}, {"draw": -1}, {"draw": 1.5}],
)
def test_wrong_numbers(wrong: dict) -> None:
    with pytest.raises(MmfuseError, match=f"{next(iter(wrong))} is a whole number"):
        draw_clips(catalogue_of(clips_of([[2]] * 3)), **{"shots": 1, "draw": 0} | wrong)


# --- validation --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=6), min_size=3, max_size=3),
    share=st.floats(0.01, 0.9),
)
def test_a_held_out_part_shares_no_source(sizes: list[list[int]], share: float) -> None:
    catalogue = catalogue_of(clips_of(sizes))
    rows = draw_clips(catalogue, shots="all", draw=0)
    kept, held = hold_out(catalogue, rows, share=share)
    assert sorted([*kept["clip"], *held["clip"]]) == sorted(rows["clip"])
    assert not set(kept["group"]) & set(held["group"])
    assert set(kept["label"]) == set(held["label"]) == {0, 1, 2}
    for label, groups in enumerate(sizes):
        count = int((held["label"] == label).sum())
        assert count <= max(share * sum(groups), max(groups))


def test_a_class_of_one_source_cannot_be_validated_on() -> None:
    catalogue = catalogue_of(clips_of([[1, 1], [2], [1, 1]]))
    rows = draw_clips(catalogue, shots=2, draw=0)
    with pytest.raises(
        MmfuseError, match="no validation part can be cut from 'class 1': its 2 training clips are of one source"
    ):
        hold_out(catalogue, rows, share=0.5)
    assert hold_out(catalogue, rows, share=0.0)[0] is rows


# --- certificates ------------------------------------------------------------------------------------------------


@needs_official_lists
@pytest.mark.parametrize(("name", "split"), [*SPLITS, ("tiny", 1)])
def test_every_certified_draw_is_found_again(name: str, split: int) -> None:
    catalogue = load_catalogue(name, split=split, annotations=ANNOTATIONS)
    on_record = json.loads(few_shot.fingerprints_file(name).read_text())[str(split)]
    assert certificate_of(catalogue) == on_record
    shots = [str(shots) for shots in CERTIFIED_SHOTS if name != "diving48" or shots != 64]
    assert set(on_record["draws"]) == set(shots)
    assert all(len(prints) == CERTIFIED_DRAWS for prints in on_record["draws"].values())


@needs_official_lists
@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_official_draws_are_nested_exact_and_clean(name: str, split: int) -> None:
    catalogue = load_catalogue(name, split=split, annotations=ANNOTATIONS)
    live = len(catalogue.class_names) - len(catalogue.card.dead_classes)
    test = set(catalogue.part("test")["clip"])
    earlier: set[str] = set()
    sources = catalogue.part("train").groupby("label")["group"].nunique()
    for shots in (2, 4, 8, 16, 32):
        drawn = draw_clips(catalogue, shots=shots, draw=0)
        assert drawn["label"].value_counts().to_dict().values() == {shots} or len(drawn) == shots * live
        assert (drawn.groupby("label")["group"].nunique() == sources.clip(upper=shots)).all()
        assert earlier < set(drawn["clip"])
        assert not set(drawn["clip"]) & test
        earlier = set(drawn["clip"])


def test_a_draw_with_another_fingerprint_stops_the_run() -> None:
    catalogue = load_catalogue("tiny")
    rows = draw_clips(catalogue, shots=4, draw=0)
    assert certify(catalogue, rows, shots=4, draw=0)
    assert not certify(catalogue, draw_clips(catalogue, shots=3, draw=0), shots=3, draw=0), "3 shots are not on record"
    assert not certify(catalogue, draw_clips(catalogue, shots=4, draw=99), shots=4, draw=99)
    relabelled = rows.assign(label=rows["label"].sample(frac=1, random_state=0).tolist())
    with pytest.raises(MmfuseError, match="draw 0 at 4 shots of Tiny Actions split 1 is not the certified one"):
        certify(catalogue, relabelled, shots=4, draw=0)
    table = catalogue.table
    without = dataclasses.replace(catalogue, table=table.drop(index=table.index[table["part"] == "test"][3]))
    with pytest.raises(MmfuseError, match="the test list of Tiny Actions split 1 is not the certified one"):
        certify(without, rows, shots=4, draw=0)


def test_only_known_data_sets_have_certificates() -> None:
    recorded = {path.stem for path in few_shot.fingerprints_file("x").parent.glob("*.json")}
    assert recorded <= set(card_names())
    own = catalogue_of(clips_of([[2]] * 3))
    assert not certify(own, draw_clips(own, shots=1, draw=0), shots=1, draw=0)
