"""What the pages say that is made from the code: it says all of it, and says it right."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmfuse.methods import catalogue
from tests.methods.test_counts import IMAGE, TEXT

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def making() -> Iterator[Any]:
    """The package beside the pages, as the build imports it."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import making
        import making.costs
        import making.methods
        import making.schema

        yield making
    finally:
        sys.path.remove(str(ROOT / "docs"))


def asked_for() -> list[tuple[str, str]]:
    """What the pages ask to be made, with the page."""
    return [
        (name, page.stem)
        for page in PAGES
        for name in re.findall(r"<!-- made: (.+?) -->", page.read_text(encoding="utf-8"))
    ]


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    shown = [page for section in yaml.safe_load(text)["nav"] for pages in section.values() for page in pages]
    assert sorted(shown) == [page.name for page in PAGES]


def test_all_that_is_asked_for_can_be_made_and_all_that_can_be_is_asked_for(making: Any) -> None:
    assert {name.split()[0] for name, _ in asked_for()} == set(making.MAKERS)


@pytest.mark.parametrize("name", [name for name, _ in asked_for() if name.split()[0] in ("fields", "keys")])
def test_every_key_of_records_and_grids_is_explained(name: str, making: Any) -> None:
    maker, where = name.split()
    table = making.MAKERS[maker](where)
    for own, field in making.schema.model_of(where).model_fields.items():
        key = field.alias or own
        assert re.search(rf"^\| `{key}` \| .*\| .*\w.* \|$", table, flags=re.MULTILINE)
    assert "| any |" not in table, "a type that has no words"


def test_every_explained_model_is_on_a_page(making: Any) -> None:
    explained = yaml.safe_load(making.schema.MEANINGS.read_text(encoding="utf-8"))
    assert set(explained) == {name.rpartition(".")[2] for name, _ in asked_for() if "." in name}


def test_every_family_has_its_place(making: Any) -> None:
    families = [name.split()[1] for name, _ in asked_for() if name.startswith("family ")]
    assert sorted(families) == sorted({info.family for info in catalogue() if not _brought(info)})


def _brought(info: Any) -> bool:
    """Whether another package, or a test, brought a method."""
    return not isinstance(info.implementation, str)


def test_weights_are_those_of_the_papers(making: Any) -> None:
    for kind, table in (("image", IMAGE), ("text", TEXT)):
        for spec, expected in table:
            if spec in ("lora", "vpt-deep", "coop", "aim", "bitfit"):
                assert making.costs.weights(spec, kind) == expected, spec


def test_operations_grow_by_the_same_amount_with_each_layer(making: Any) -> None:
    for method in ("vpt-deep", "lora"):
        [one, two, four] = [making.costs.counted(method, layers) for layers in (1, 2, 4)]
        assert four == tuple(first + 3 * (second - first) for first, second in zip(one, two, strict=True))


def test_operations_of_a_frozen_tower_are_those_of_its_matrices(making: Any) -> None:
    # 2 operations a weight and token: 12 layers of 12·768² weights, 257 tokens; the patches; attention's two products.
    tokens, width, frames = 257, 768, 16 * 8
    layers = 12 * (2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width)
    patches = 2 * 256 * (3 * 14 * 14) * width
    assert making.costs.operations("frozen")[0] == frames * (layers + patches)


def test_every_argument_of_every_method_is_explained(making: Any) -> None:
    for info in catalogue():
        if not _brought(info):
            meanings = making.methods.meanings_for(info)
            assert set(info.defaults) <= set(meanings), info.name


def test_stored_timings_are_shown_with_where_they_were_taken(
    making: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from making import stored

    monkeypatch.setattr(stored, "cards_folder", lambda: tmp_path / "data_splits")
    assert stored.speed() == ""
    figure = {"median": 3.14159, "low": 2.5, "high": 4.0, "count": 5}
    plain = {"against": "", "unit": "s", "at_least": None, "at_most": 2.0, "met": None}
    rows = [
        {**plain, "what": "a step", "against": "live", "measured": figure, "unit": "×", "at_least": 3.0, "met": True},
        {**plain, "what": "a start", "measured": None, "run": {"command": "an earlier one", "date": "2025-12-31"}},
    ]
    rows[1]["run"]["machine"] = {"processor": "Another", "bf16_tiles": False, "computes_in": "AVX2"}
    machine = {"processor": "A CPU", "threads": 1, "bf16_tiles": True, "computes_in": "AVX512"}
    content = {"command": "python benchmarks/speed", "date": "2026-01-01", "machine": machine, "rows": rows}
    path = tmp_path / "benchmarks" / "speed" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    shown = stored.speed()
    assert "| a step | live | 3.14× (2.5–4) | ≥ 3, ≤ 2 | yes | CPU, AMX |" in shown
    assert "| a start |  | not measured | ≤ 2 |  | CPU, AVX2 |" in shown
    assert "`an earlier one` (2025-12-31), `python benchmarks/speed` (2026-01-01), on A CPU, 1 thread" in shown


def test_every_picture_is_shown_and_small() -> None:
    """Pages are read over slow networks too, and a picture that no page shows is one that nobody makes anew."""
    pages = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    pictures = sorted((ROOT / "docs" / "assets").glob("*.png"))
    assert pictures
    for path in pictures:
        assert path.stat().st_size <= 150_000, path.name
        assert f"assets/{path.name})" in pages, path.name
        assert f'"{path.stem}"' in (ROOT / "docs" / "making" / "pictures.py").read_text(encoding="utf-8")
