"""One's own clips divided by source: whole sources, every class on both sides, close to the share."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfuse.data.catalogue.divide import Division, divide
from mmfuse.data.catalogue.sources import sources_of
from mmfuse.errors import MmfuseError


def clips(names: Sequence[str], groups: Sequence[str | None] | None = None) -> pd.DataFrame:
    """A table of clips by their paths, whose first folder is the class."""
    table = pd.DataFrame({"clip": list(names), "class": [name.split("/")[0] for name in names], "path": list(names)})
    return table if groups is None else table.assign(group=list(groups))


def by_name(table: pd.DataFrame, *, test: float = 0.2, groups: str | None = None, seed: int = 0) -> Division:
    return divide(table, test=test, name="mine", groups=groups, seed=seed, frames=False)


TABLES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8)), min_size=6, max_size=60).map(
    lambda rows: clips([f"{c}/{n}.mp4" for n, (c, _) in enumerate(rows)], [f"g{g}" for _, g in rows])
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(table=TABLES, order=st.randoms(use_true_random=False), test=st.sampled_from([0.1, 0.2, 0.5]))
def test_sources_are_whole_classes_are_on_both_sides_and_order_is_nothing(table, order, test) -> None:
    try:
        found = by_name(table, test=test)
    except MmfuseError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert refused.startswith("groups that cannot be parted")
        return
    assert not set(found.train["group"]) & set(found.test["group"])
    assert set(found.train["class"]) == set(found.test["class"]) == set(table["class"])
    assert sorted([*found.train["clip"], *found.test["clip"]]) == sorted(table["clip"])
    rows = list(range(len(table)))
    order.shuffle(rows)
    again = by_name(table.iloc[rows], test=test)
    assert again.test.equals(found.test)
    assert again.train.equals(found.train)


def test_shares_are_as_close_as_whole_sources_allow() -> None:
    """25 sources of 4 to 7 clips a class, as in UCF101."""
    names = [
        f"{c}/v_{c}_g{g:02d}_c{n:02d}.avi" for c in "abcde" for g in range(25) for n in range(4 + (g + ord(c)) % 4)
    ]
    found = by_name(clips(names), test=0.3)
    shares = found.test["class"].value_counts() / clips(names)["class"].value_counts()
    assert ((shares - 0.3).abs() < 0.5 / 100).all()
    assert found.groups == 125
    assert by_name(clips(names), test=0.3, seed=1).test["clip"].tolist() != found.test["clip"].tolist()


def test_few_sources_of_several_classes_are_parted_where_they_can_be() -> None:
    """A case of scikit-learn's issue 28218, where a stratified division by group leaves classes out."""
    names, groups = ["1/a", "1/b", "0/c", "0/d", "2/e", "2/f"], ["a", "b", "b", "c", "c", "d"]
    found = by_name(clips(names, groups), test=0.5)
    assert set(found.test["class"]) == set(found.train["class"]) == {"0", "1", "2"}
    with pytest.raises(MmfuseError, match="groups that cannot be parted: no choice of sources"):
        by_name(clips(names, ["a", "b", "b", "c", "c", "a"]), test=0.5)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/v_a_g01_c01.avi", "a/v_a_g01_c02.avi", "a/v_a_g02_c01_flip.avi"], ["v_a_g01", "v_a_g01", "v_a_g02"]),
        (
            ["wave/Up_09_wave_u_nm_np1_ba_goo_0.avi", "jump/Up_09_jump_u_cm_np1_fr_med_2.avi"],
            ["up_09", "up_09"],
        ),
        (["a/S001C001P003R001A001_rgb.avi", "b/S001C002P003R001A002_rgb.avi"], ["p003", "p003"]),
        (["a/person01_a_d1_uncomp.avi", "b/x_subject 3.mp4"], ["person01", None]),
        (["a/abcdefghijk_000010_000020.mp4", "a/abcdefghijk_000050_000060.mp4"], ["abcdefghijk"] * 2),
        (["a/hall_part2.mp4", "a/hall_part1_mirror.mp4", "a/hall.mp4", "a/hall 3 - copy.mp4"], ["hall"] * 3 + [None]),
        (["a/lab_12.5_17.5.mp4", "a/lab_20-30.mp4", "a/lab clip 3.mp4"], ["lab"] * 3),
        (["a/VID_20240131_123005.mp4", "a/VID_20240131_123005_2.mp4"], ["vid_20240131_123005"] * 2),
        (["a/ann_01.mp4", "b/Ann_02.mp4", "a/bob1.mp4", "b/bob (2).mp4"], ["ann", "ann", "bob", "bob"]),
        (["a/s1/x.mp4", "a/s1/y.mp4", "a/s2/x.mp4", "b/all/x.mp4"], ["s1", "s1", "s2", None]),
        # A number that counts the clips of a class, or of a camera, is no source.
        (["wave/wave_01.mp4", "wave/waving(2).mp4", "wave/clip_3.mp4", "wave/IMG_4.MOV"], [None] * 4),
        (["golf/swing_1.mp4", "golf/swing_2.mp4", "golf/swing_3.mp4"], [None] * 3),
        (["a/550e8400-e29b-41d4-a716-446655440000.mp4", "a/a3f9c1d2.mp4"], [None] * 2),
    ],
)
def test_sources_are_recognised_by_names(names: list[str], expected: list[str | None]) -> None:
    found = sources_of(clips(names), None)
    assert found.groups == [source or name for source, name in zip(expected, names, strict=True)]
    # What was recognised is told with the name of a clip.
    if any(source is not None and expected.count(source) > 1 for source in expected):
        assert any(name in note for note in found.notes for name in names)
    else:
        assert found.notes == ["names tell of no sources: every clip is taken as its own"]


def test_a_pattern_and_given_groups() -> None:
    names = ["a/x1_p1.mp4", "a/x2_p2.mp4", "b/x3_p1.mp4", "b/x4.mp4"]
    found = sources_of(clips(names), r"_(p\d)")
    assert found.groups == ["p1", "p2", "p1", "b/x4.mp4"]
    assert "does not fit 1 clip, such as b/x4.mp4" in found.notes[1]
    assert sources_of(clips(names), "none").groups == names
    given_groups = sources_of(clips(names, ["g", None, "g", "h"]), None)
    assert given_groups.groups == ["g", "a/x2_p2.mp4", "g", "h"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": 0.0}, "lies above 0 and below 1"),
        ({"test": 1.0}, "lies above 0 and below 1"),
        ({"test": float("nan")}, "lies above 0 and below 1"),
        ({"groups": "x("}, r"is no regular expression"),
        ({"groups": "p1"}, r"has 0 groups in parentheses"),
        ({"groups": "(p)(1)"}, r"has 2 groups in parentheses"),
        ({"groups": "(zzz)"}, r"fits no clip, such as a/p1_x1.mp4"),
        ({"groups": "(p1)"}, r"groups that cannot be parted: all 2 clips of 'a' are of one source, 'p1', such as a/p1"),
    ],
)
def test_wrong_requests(change: dict[str, object], message: str) -> None:
    table = clips(["a/p1_x1.mp4", "a/p1_x2.mp4", "b/x3.mp4", "b/x4.mp4"])
    with pytest.raises(MmfuseError, match=message) as error:
        by_name(table, **change)
    assert "\n" not in str(error.value)
