"""The numbers of the plots, how pairs are drawn, and the pieces of SVG."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfuse.records.status import read_entries
from mmfuse.report.groups import groups
from mmfuse.report.plots import html
from mmfuse.report.plots.labels import spread
from mmfuse.report.plots.points import Plots, on_front
from mmfuse.report.plots.styles import BASELINE, REST, STYLES, pair_styles
from mmfuse.report.plots.svg import linear, logarithmic, short, tag
from mmfuse.report.tables.accuracy import Comparison
from tests.report.made import build, group_of
from tests.report.scenes import END, plain


def plots_of(path: Path, **settings: object) -> Plots:
    folder = plain(path, **settings)  # type: ignore[arg-type]
    [group] = groups(read_entries(folder), folder)
    return Plots(Comparison(group))


def test_the_points_are_those_of_the_table(tmp_path: Path) -> None:
    plots = plots_of(tmp_path)
    rows = {row.name: row.values for row in plots.comparison.table.rows}
    for series in plots.series:
        assert [mean for _, mean in series.points] == [value.mean for value in rows[series.pair][:2]]
    for trade in plots.trades("all", "parameters"):
        assert trade.accuracy == rows[trade.pair][1].mean


def test_missing_places_leave_a_gap(tmp_path: Path) -> None:
    plots = plots_of(tmp_path, skip=[("dora+adapter", 2, draw) for draw in range(3)])
    assert {series.pair: [at for at, _ in series.points] for series in plots.series} == {
        "frozen+frozen": [0, 1],
        "dora+adapter": [1],
    }
    assert plots.shots_with_numbers == [2, "all"]
    assert [trade.pair for trade in plots.trades(2, "seconds")] == ["frozen+frozen"]


def test_costs_tell_weights_and_seconds(tmp_path: Path) -> None:
    plots = plots_of(tmp_path)
    assert {trade.pair: trade.cost for trade in plots.trades("all", "parameters")} == {
        "frozen+frozen": 0,
        "dora+adapter": 500,
    }
    assert {trade.cost for trade in plots.trades("all", "seconds")} == {10.0}
    assert plots.clock == "CPU-seconds"
    assert plots.chance == pytest.approx(100 / 3)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_the_front_by_its_definition(points: list[tuple[float, float]]) -> None:
    def beaten(point: tuple[float, float]) -> bool:
        return any(o[0] <= point[0] and o[1] >= point[1] and o != point for o in points)

    assert on_front(points) == {point for point in points if not beaten(point)}


def test_the_highest_three_stand_out_and_the_frozen_towers_are_themselves(tmp_path: Path) -> None:
    names = [f"pair{number}" for number in range(9)]
    # Without some other setting they were all one cell: a pair's name is only a label.
    cells = [build(name, shots=16, train={"epochs": 1 + at}) for at, name in enumerate([*names, "frozen+frozen"])]
    group = group_of(
        tmp_path, cells, lambda cell: 0.1 * int(cell.pair.name.removeprefix("pair").replace("frozen+frozen", "5"))
    )
    found = pair_styles([Plots(Comparison(group))])
    assert found["frozen+frozen"].key == BASELINE
    assert [name for name in names if found[name].key == REST] == [f"pair{number}" for number in range(6)]
    drawn = [found[name] for name in names[6:]]
    assert drawn == list(STYLES)
    assert len({(style.marker, style.dash) for style in drawn}) == len({style.marker for style in drawn}) == len(STYLES)


def test_colours_are_told_apart_in_grey_by_marker_and_line() -> None:
    assert len({style.marker for style in STYLES}) == len({style.dash for style in STYLES}) == len(STYLES)


def test_pictures_are_sound_xml_whatever_the_names(tmp_path: Path) -> None:
    cells = [
        build(name, shots=shots, draw=draw) for name in ("frozen+frozen", END) for shots in (2, 8) for draw in (0, 1)
    ]
    plots = Plots(Comparison(group_of(tmp_path, cells, lambda cell: 0.3 + 0.1 * cell.draw)))
    shared = pair_styles([plots])
    for picture in (
        html.against_shots(plots, shared),
        *(html.against_cost(plots, shared, 8, c) for c in ("parameters", "seconds")),
    ):
        assert picture is not None
        tree = ElementTree.fromstring(str(picture))
        assert not list(tree.iter("script"))
        assert any(END in (title.text or "") for title in tree.iter("title"))
        assert "nan" not in str(picture)
        assert tree.attrib["role"] == "img"
        assert tree.attrib["aria-label"]


def test_nothing_done_draws_nothing(tmp_path: Path) -> None:
    plots = plots_of(tmp_path, draws=[0], shots=[2], skip=[("frozen+frozen", 2, 0), ("dora+adapter", 2, 0)])
    shared = pair_styles([plots])
    assert html.against_shots(plots, shared) is None
    assert html.against_cost(plots, shared, 2, "seconds") is None
    assert plots.chance is None


@given(st.lists(st.floats(0, 100), min_size=1))
def test_a_scale_holds_every_value_and_few_ticks(values: list[float]) -> None:
    scale = linear(values, floor=0.0, ceiling=100.0)
    assert all(-1e-9 <= scale.share(value) <= 1 + 1e-9 for value in values)
    assert 2 <= len(scale.ticks) <= 9
    assert list(scale.ticks) == sorted(scale.ticks)


@given(st.lists(st.floats(-50, 150), max_size=12))
def test_labels_keep_their_order_and_never_touch(wanted: list[float]) -> None:
    places = spread(wanted, gap=5.0, low=0.0, high=100.0)
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    ordered = [places[at] for at in order]
    assert all(later - earlier >= 5.0 - 1e-6 for earlier, later in pairwise(ordered))
    assert all(-1e-6 <= place <= 100.0 + 1e-6 for place in places)


def test_labels_that_do_not_touch_stay_where_they_are() -> None:
    assert spread([40.0, 10.0, 70.0], gap=5.0, low=0.0, high=100.0) == pytest.approx([40.0, 10.0, 70.0])
    assert spread([99.0, 98.0], gap=5.0, low=0.0, high=100.0) == pytest.approx([100.0, 95.0])


@given(st.lists(st.floats(1e-3, 1e12), min_size=1))
def test_a_logarithmic_scale_holds_every_value(values: list[float]) -> None:
    scale = logarithmic(values)
    assert all(0 <= scale.share(value) <= 1 for value in values)
    assert all(0 <= scale.share(tick) <= 1 for tick in scale.ticks)
    assert len(scale.ticks) <= 24


def test_text_and_attributes_cannot_end_their_place() -> None:
    made = tag("text", 'a</text><script>"', x=1.5, data_pair='"><script>', none=None)
    assert str(made).count("<") == 2
    assert ElementTree.fromstring(str(made)).attrib == {"x": "1.5", "data-pair": '"><script>'}
    assert short(math.pi) == "3.14"
