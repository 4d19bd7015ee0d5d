"""`prompts` of a grid: files and mappings, which cells they are for, their identity, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmfuse.bench.grid import LoadedGrid, load_grid
from mmfuse.bench.job import Job
from mmfuse.bench.prompt_files import check_lengths, read_prompts
from mmfuse.bench.run_cell import run_cell
from mmfuse.bench.session import Request, Session
from mmfuse.data.catalogue.cards import load_card
from mmfuse.errors import MmfuseError
from mmfuse.model.fusion import FUSIONS
from mmfuse.records.cell import WITHOUT_TEXT, Cell
from tests.bench.real import CLASSES, make_cell

TINY = load_card("tiny")
BY_NAME = {name: [f"it does {name}", f"see {name}"] for name in TINY.class_names}
BASE: dict[str, Any] = {"name": "told", "datasets": ["tiny"], "shots": [2], "pairs": ["frozen+frozen", "frozen+coop"]}


def write(folder: Path, **changes: Any) -> LoadedGrid:
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}, sort_keys=False), encoding="utf-8")
    return load_grid(str(path))


def test_sentences_are_part_of_a_cells_identity_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "llm.json").write_text(json.dumps(BY_NAME), encoding="utf-8-sig")
    (tmp_path / "llm.yaml").write_text(yaml.safe_dump(dict(reversed(BY_NAME.items())), sort_keys=False))
    plain = write(tmp_path).cells()[0].config_hash
    [told, *_] = {
        cell.config_hash
        for given in ("llm.json", "llm.yaml", BY_NAME)
        for cell in write(tmp_path, prompts=given).cells()[:1]
    }
    hashes = [write(tmp_path, prompts=given).cells()[0].config_hash for given in ("llm.json", "llm.yaml", BY_NAME)]
    assert set(hashes) == {told}
    assert told != plain
    other = {**BY_NAME, "Grow": ["it grows"]}
    assert write(tmp_path, prompts=other).cells()[0].config_hash not in (plain, told)
    cell = write(tmp_path, prompts="llm.json").cells()[0]
    assert Cell.model_validate_json(cell.model_dump_json()).config_hash == told


def test_a_pair_and_an_override_may_have_sentences_of_their_own(tmp_path: Path) -> None:
    own = {name: ["own " + name] for name in TINY.class_names}
    grid = write(
        tmp_path,
        shots=[2, 4],
        templates=["a clip of {}"],
        pairs=["frozen+frozen", {"name": "told", "image": "frozen", "text": "frozen", "prompts": BY_NAME}],
        overrides=[{"where": {"shots": [4], "pairs": ["told"]}, "prompts": own}],
    )
    found = {(cell.pair.name, cell.shots): (cell.prompts, cell.templates) for cell in grid.cells()}
    assert found["frozen+frozen", 2] == found["frozen+frozen", 4] == (None, ("a clip of {}",))
    assert found["told", 2] == ({name: tuple(texts) for name, texts in BY_NAME.items()}, None)
    assert found["told", 4] == ({name: tuple(texts) for name, texts in own.items()}, None)


WRONG: dict[str, tuple[bytes, str]] = {
    "twice.json": (b'{"Grow": ["a"], "Grow": ["b"]}', "'Grow' stands there twice"),
    "twice.yaml": (b"Grow: [a]\nGrow: [b]\n", "'Grow' stands here twice"),
    "utf16.json": (json.dumps(BY_NAME).encode("utf-16"), "not in UTF-8"),
    "latin.yaml": ("Grow: [grösser]".encode("latin-1"), "not in UTF-8"),
    "broken.json": (b'{"Grow": [', "not JSON"),
    "deep.json": (b"[" * 100_000, "nested too deeply"),
    "tag.yaml": (b"Grow: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    "empty.yaml": (b"", "prompts are classes with sentences"),
    "list.json": (b'["a"]', "prompts are classes with sentences"),
    "number.yaml": (b"Grow: [1.5]", "sentence 1 is no text: 1.5; put it in quotes"),
    "half.json": (b'{"Grow": ["\\ud83d"]}', "half a character"),
    "missing.json": (json.dumps({"Grow": ["a"]}).encode(), "no sentence for the class"),
    "unknown.json": (json.dumps({**BY_NAME, "Gorw": ["a"]}).encode(), "did you mean 'Grow'"),
    "both.json": (json.dumps({**BY_NAME, TINY.phrases[0]: ["a"]}).encode(), "named by another word too"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_line_with_its_place_in_the_grid(tmp_path: Path, name: str) -> None:
    content, message = WRONG[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MmfuseError) as told:
        write(tmp_path, prompts=name).cells()
    text = str(told.value)
    assert message in text
    assert text.startswith(f"{tmp_path / 'grid.yaml'}:")
    assert "\n" not in text
    assert len(text) < 600


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": "nowhere.json"}, "No such file"),
        ({"prompts": "."}, "Is a directory"),
        ({"prompts": 7}, "prompts"),
        ({"prompts": BY_NAME, "templates": ["{}"]}, "say one of them"),
        ({"prompts": BY_NAME, "fusion": "linear"}, "no meaning for the fusion 'linear'"),
        ({"prompts": BY_NAME, "test_on": ["hmdb51"]}, "test_on names another, hmdb51"),
        ({"prompts": BY_NAME, "datasets": ["ucf101"]}, "unknown class of prompts"),
    ],
)
def test_prompts_that_mean_nothing_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MmfuseError, match=message) as told:
        write(tmp_path, **changes).cells()
    assert "\n" not in str(told.value)


def test_the_fusions_without_text_are_those_that_say_so() -> None:
    assert set(WITHOUT_TEXT) == {name for name, kind in FUSIONS.items() if not kind.open_vocabulary}


def test_a_sentence_is_measured_with_the_tokens_that_the_method_takes(
    clips: dict[str, str], towers: dict[str, str]
) -> None:
    prompts = {name: ["go " * 10 + name] for name in CLASSES}
    told = make_cell(clips, towers).model_dump()

    def cell(text: Any) -> Cell:
        return Cell.model_validate({**told, "prompts": prompts, "pair": {"name": "x", "image": "frozen", "text": text}})

    check_lengths([make_cell(clips, towers), cell("frozen")])
    with pytest.raises(MmfuseError, match=r"has \d+ tokens; the text tower .* less 60 for learned context"):
        check_lengths([cell("frozen"), cell({"method": "coop", "length": 60})])


@pytest.mark.usefixtures("cache")
def test_a_cell_is_trained_with_its_sentences_and_its_checkpoint_has_them(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path
) -> None:
    told = make_cell(clips, towers).model_dump()
    prompts = {name: [f"a person is {name}", "seen"][: 1 + row % 2] for row, name in enumerate(CLASSES)}
    cell = Cell.model_validate({**told, "prompts": prompts})
    outcome = run_cell(Job(cell=cell, command="again", keep_checkpoint=True), progress=lambda news: None)
    assert json.loads(outcome.files["checkpoint/recognizer.json"])["arguments"]["prompts"] == prompts
    assert outcome.record.cell.prompts == cell.prompts
    # Sentences of other classes than those of one's own clips are refused before anything runs.
    grid = {**BASE, "datasets": [clips], "encoders": towers, "prompts": {**prompts, "walkin": ["x"]}}
    session = Session(Request(grid=grid, results=tmp_path / "results"))
    with pytest.raises(MmfuseError, match="did you mean 'walking'"):
        session.prepare()
    assert not (tmp_path / "results").exists()


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "mark.yaml").write_bytes(b"\xef\xbb\xbfGrow: a shape grows\n")
    assert read_prompts(tmp_path / "mark.yaml") == {"Grow": ("a shape grows",)}
