"""Grid files: what they expand to, and how their faults are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from mmfuse.bench import grid
from mmfuse.bench.added_draws import first_cells
from mmfuse.bench.arithmetic import gpu_hours
from mmfuse.bench.grid import grid_names, load_grid
from mmfuse.bench.grid_keys import RunSettings
from mmfuse.bench.plan import select
from mmfuse.cli.run import hours_in_words
from mmfuse.errors import MmfuseError
from mmfuse.methods.registry import METHODS, names
from mmfuse.records.cell import Clip, Train
from mmfuse.records.decisions import looks_of

README = Path(__file__).parents[2] / "README.md"
GRID = """\
name: mine
datasets: [ucf101, {name: motions, root: clips, train: train.csv, test: test.csv}]
splits: [1, 2]
shots: [2, 16, all]
draws: [0, 1]
pairs:
  - frozen+frozen
  - dora+adapter
  - {name: wide-lora, image: {method: lora, rank: 32}, text: frozen}
  - {name: late, image: frozen, text: frozen, fusion: {kind: late}}
encoders: {image: facebook/dinov2-base, text: openai/clip-vit-base-patch16}
fusion: {kind: joint, width: 512, layers: 2}
train: {epochs: 30, method_lr: 1e-3}
overrides:
  - where: {shots: [2]}
    train: {epochs: 60}
  - where: {datasets: ucf101, pairs: "dora+*"}
    clip: {frames: 32}
    train: {batch_size: 8}
"""


def write(folder: Path, text: str = GRID) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_a_grid_expands_to_its_product_in_table_order(tmp_path: Path) -> None:
    cells = load_grid(write(tmp_path)).cells()
    assert (
        len(cells)
        == len({cell.name for cell in cells})
        == len({cell.config_hash for cell in cells})
        == 2 * 2 * 4 * 3 * 2
    )
    assert [cell.name for cell in cells[:3]] == [
        "ucf101-split1-frozen+frozen-k2-draw0-seed0",
        "ucf101-split1-frozen+frozen-k2-draw1-seed0",
        "ucf101-split1-frozen+frozen-k16-draw0-seed0",
    ]


def test_overrides_and_pairs_change_their_cells_and_no_others(tmp_path: Path) -> None:
    cells = load_grid(write(tmp_path)).cells()
    for cell in cells:
        assert cell.train.epochs == (60 if cell.shots == 2 else 30)
        chosen = cell.dataset.name == "ucf101" and cell.pair.name == "dora+adapter"
        assert cell.clip.frames == (32 if chosen else None)
        assert cell.train.batch_size == (8 if chosen else 16)
        assert cell.train.method_lr == 1e-3
        # Another kind of fusion does not inherit the arguments of the grid's.
        assert cell.fusion.model_dump() == (
            {"kind": "late"} if cell.pair.name == "late" else {"kind": "joint", "width": 512, "layers": 2}
        )


def test_paths_are_found_beside_the_grid_file(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "tower").mkdir()
    cells = load_grid(write(tmp_path, GRID.replace("facebook/dinov2-base", "./tower"))).cells()
    assert cells[-1].dataset.root == str(tmp_path / "clips")
    (tmp_path / "k2.txt").touch()
    listed = GRID.replace("[ucf101,", "[{name: ucf101, train_lists: {2: k2.txt}},")
    found = {cell.shots: cell.train_list for cell in load_grid(write(tmp_path, listed)).cells()[:12]}
    assert found == {2: str(tmp_path / "k2.txt"), 16: None, "all": None}
    assert cells[0].encoders.image == str(tmp_path / "tower")


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("splits:", "split:", 3, r"split: unknown key 'split'; did you mean 'splits'\?"),
        ("epochs: 30", "epoch: 30", 13, r"train\.epoch: .*did you mean 'epochs'\?"),
        ("epochs: 30", "epochs: 0", 13, r"train\.epochs: .*greater than or equal to 1; got 0"),
        ("epochs: 30", "epochs: many", 13, r"train\.epochs: .*got 'many'"),
        ("    train: {epochs: 60}", "    train: {epoch: 60}", 16, r"overrides\[0\]\.train\.epoch: .*'epochs'\?"),
        ("dora+adapter", "dorra+adapter", 8, r"pairs\[1\]: unknown image method 'dorra'; did you mean 'dora'\?"),
        ("dora+adapter", "dora", 8, r"pairs\[1\]: a pair is written image\+text"),
        ("dora+adapter", "zora*+adapter", 8, r"pairs\[1\]: unknown image method 'zora\*'"),
        ("dora+adapter", "frozen+frozen", 6, r"pairs: 'frozen\+frozen' stands here twice"),
        ("method: lora", "methd: lora", 9, r"pairs\[2\]\.image: .*needs the key 'method'"),
        ("[ucf101,", "[ucf11,", 2, r"datasets\[0\]: unknown data set 'ucf11'; did you mean 'ucf101'\?"),
        (", test: test.csv", "", 2, r"datasets\[1\]: .*both CSV files"),
        ("[ucf101,", "[{name: ucf101, damaged: kep},", 2, r"datasets\[0\]\.damaged: .*'error' or 'keep'; got 'kep'"),
        ("[ucf101,", "[{name: ucf101, train_lists: {4: l}},", 2, r"train_lists\.4: unknown .* '4'"),
        ("[ucf101,", "[{name: ucf101, train_lists: {few: l}},", 2, r"datasets\[0\]\.train_lists\.few"),
        ("train: {", "clip: {test_views: 0x3}\ntrain: {", 13, r"clip\.test_views: clips × crops .*such as 4x3; got 3"),
        ("train: {", "clip: {test_views: 4x2}\ntrain: {", 13, r"clip\.test_views: .*got '4x2'"),
        ("train: {", "clip: {test_views: 4}\ntrain: {", 13, r"clip\.test_views: .*got 4"),
        ("shots: [2, 16, all]", "shots: [2, 16, 16]", 4, r"shots: 16 stands here twice"),
        ("shots: [2, 16, all]", "shots: [0]", 4, r"shots\[0\]: shots are a number from 1 to 1,000,000, or all; got 0"),
        ("shots: [2, 16, all]", "shots: [true]", 4, r"shots\[0\]: .*got True"),
        ("shots: [2, 16, all]", "shots: []", 4, "shots: "),
        ("where: {shots: [2]}", "where: {shots: [3]}", 15, r"unknown value of shots '3'"),
        ("where: {shots: [2]}", "where: {shot: [2]}", 15, r"overrides\[0\]\.where\.shot: .*did you mean 'shots'\?"),
        ("draws: [0, 1]", "shots: [1]", 5, "the key 'shots' stands here twice"),
        ("train: {epochs: 30, method_lr: 1e-3}", "precision: 33", 13, "precision: unknown precision '33'"),
        ("fusion: {", "fusion: [", 10, "not YAML"),
        ("train: {", "run: {loggers: [wanb]}\ntrain: {", 13, r"run\.loggers\[0\]: unknown logger 'wanb'.*'wandb'\?"),
        ("train: {", "diagnose: test\ntrain: {", 13, r"diagnose\[0\]: unknown diagnosis 'test'; known: test_selection"),
        ("train: {", "run: {devices: 2, gpu_share: 0.5}\ntrain: {", 13, "run: a cell on several devices"),
        ("train: {", "run: {devices: 3}\ntrain: {", 13, r"run\.devices: .*16 clips .*3 devices; use 15 or 18"),
        ("kind: late", "kind: laet", 10, r"pairs\[3\]\.fusion\.kind: unknown fusion 'laet'; did you mean 'late'\?"),
        ("width: 512", "widht: 512", 12, r"fusion\.widht: unknown argument of fusion 'joint' 'widht'.*'width'\?"),
        (
            "kind: late}",
            "kind: linear, width: 512}",
            10,
            r"fusion\.width: unknown argument of fusion 'linear' 'width'; it takes none; .*joint",
        ),
        ("kind: late}", "kind: mean, layers: 2}", 10, r"fusion\.layers: unknown argument of fusion 'mean' 'layers'"),
        ("width: 512", "width: 513", 12, r"fusion\.heads: a width of 513 cannot be shared by 4 heads"),
        ("width: 512", "dropout: 1.5", 12, r"fusion\.dropout: dropout is a share from 0 to 1; got 1\.5"),
        ("rank: 32", "length: 32", 9, r"pairs\[2\]\.image: .*'lora' 'length'.*belongs to .*prefix"),
        ("rank: 32", "rnk: 32", 9, r"pairs\[2\]\.image: unknown argument of method 'lora' 'rnk'.*'rank'\?"),
    ],
)
def test_a_fault_names_file_line_and_key(tmp_path: Path, old: str, new: str, line: int, told: str) -> None:
    assert old in GRID
    path = write(tmp_path, GRID.replace(old, new, 1))
    with pytest.raises(MmfuseError, match=rf"mine\.yaml:{line}: .*{told}"):
        load_grid(path).cells()


@pytest.mark.parametrize("text", ["", "path,label", "- name: x"])
def test_a_file_that_is_no_grid(tmp_path: Path, text: str) -> None:
    with pytest.raises(MmfuseError, match=r"mine\.yaml:1: a grid file holds keys \(name, "):
        load_grid(write(tmp_path, text))


@pytest.mark.parametrize("name", ["field", "field-novel"])
def test_the_grids_of_the_field_are_on_published_lists_and_say_what_they_cost(name: str) -> None:
    loaded = load_grid(name)
    cells = loaded.cells()
    assert {cell.dataset.protocol for cell in cells} == {"vifi"}
    assert {cell.clip.test_views for cell in cells} == {"2x1"}
    hours = gpu_hours(cells) or 0.0
    head = " ".join(loaded.source.path.read_text().split("\nname:")[0].replace("#", " ").split())
    assert f"costs {len(cells)} cells; {hours_in_words(hours, hours)}." in head
    once = [cell.model_copy(update={"clip": cell.clip.model_copy(update={"test_views": "1x1"})}) for cell in cells]
    assert 0 < (gpu_hours(once) or 0.0) < hours  # a second look at each test video counts


def test_unknown_grids_and_files() -> None:
    with pytest.raises(MmfuseError, match=r"unknown grid 'dmeo'; did you mean 'demo'\?"):
        load_grid("dmeo")
    with pytest.raises(MmfuseError, match=r"no grid file nowhere/at\.yaml"):
        load_grid("nowhere/at.yaml")


@pytest.mark.parametrize("name", grid_names())
def test_shipped_grids_expand_and_say_what_they_cost(name: str) -> None:
    loaded = load_grid(name)
    assert loaded.grid.name == name
    assert loaded.cells()
    head = loaded.source.path.read_text().split("\nname:")[0]
    for word in ("command", f"mmfuse-bench --grid {name}", "costs", "expect"):
        assert word in head


@pytest.mark.parametrize("name", ["paper", "full", "peft"])
def test_the_grids_of_public_data_say_the_cells_and_hours_that_are_computed(name: str) -> None:
    loaded = load_grid(name)
    assert loaded.grid.until_decided is not None
    every = loaded.cells()
    first = first_cells(every, loaded.grid.until_decided)
    head = " ".join(loaded.source.path.read_text().split("\nname:")[0].replace("#", " ").split())
    assert f"costs {len(first):,} to {len(every):,} cells" in head
    hours = hours_in_words(gpu_hours(first) or 0.0, gpu_hours(every) or 0.0)
    assert hours in head
    if name == "full":
        assert f"takes {hours.partition(' GPU')[0]}" in " ".join(README.read_text().split())


def test_the_full_grid_covers_the_catalogue() -> None:
    cells = load_grid("full").cells()
    for tower in ("image", "text"):
        used = {getattr(cell.pair, tower)["method"] for cell in cells}
        expected = {
            name
            for name in names(tower)
            if METHODS[name].family != "other" and not METHODS[name].summary.startswith("alias")
        }
        assert expected <= used
    assert {cell.dataset.name for cell in cells} == {"ucf101", "hmdb51", "diving48"}
    assert {cell.shots for cell in cells} == {2, 4, 5, 8, 16, "all"}


def test_only_filters_cells(tmp_path: Path) -> None:
    cells = load_grid(write(tmp_path)).cells()
    chosen = select(cells, ["pair=dora+adapter,late", "shots=2,all", "dataset=ucf101", "split=1"])
    assert len(chosen) == 2 * 2 * 2
    assert {cell.pair.name for cell in chosen} == {"dora+adapter", "late"}
    assert len(select(cells, ["shots=2", "shots=16"])) == 2 * len(select(cells, ["shots=2"]))


@pytest.mark.parametrize(
    ("only", "told"),
    [
        (["pair=dorra+adapter"], r"unknown pair .*did you mean 'dora\+adapter'\?"),
        (["pairs"], "KEY=VALUE"),
        (["colour=red"], "unknown key of --only 'colour'"),
        (["shots=3"], "unknown shots"),
    ],
)
def test_only_that_means_nothing_is_refused(tmp_path: Path, only: list[str], told: str) -> None:
    cells = load_grid(write(tmp_path)).cells()
    with pytest.raises(MmfuseError, match=told):
        select(cells, only)


def test_a_hostile_grid_runs_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = write(tmp_path, f"name: !!python/object/apply:os.mkdir ['{mark}']\n")
    with pytest.raises(MmfuseError, match=r"mine\.yaml:1"):
        load_grid(path)
    assert not mark.exists()


NUMBERS = {
    "splits: [{}]": (1, 1000),
    "draws: [{}]": (0, 2**32 - 1),
    "seeds: [{}]": (0, 2**32 - 1),
    "shots: [{}]": (1, 1_000_000),
    "clip: {{frames: {}}}": (1, 1024),
    "clip: {{size: {}}}": (8, 2048),
    "clip: {{views: {}}}": (0, 100_000),
    "train: {{epochs: {}}}": (1, 100_000),
    "train: {{batch_size: {}}}": (1, 100_000),
    "train: {{method_lr: {}}}": (1e-9, 1e6),
    "train: {{fusion_lr: {}}}": (1e-9, 1e6),
    "train: {{weight_decay: {}}}": (0, 1e6),
    "train: {{warmup: {}}}": (0, 0.9),
    "train: {{label_smoothing: {}}}": (0, 0.9),
    "train: {{validation: {}}}": (0, 0.9),
    "train: {{mixup: {}}}": (0, 100),
    "train: {{cutmix: {}}}": (0, 100),
    "train: {{color_jitter: {}}}": (0, 1),
    "train: {{random_erasing: {}}}": (0, 1),
    "train: {{rand_augment: {{operations: {}}}}}": (1, 14),
    "train: {{rand_augment: {{magnitude: {}}}}}": (0, 30),
    "train: {{optimizer: sgd, momentum: {}}}": (0, 0.9),
    "train: {{ema: {}}}": (0, 0.9),
    "fusion: {{width: {}}}": (4, 65_536),
    "fusion: {{layers: {}}}": (1, 64),
    "fusion: {{dropout: {}}}": (0.0, 0.9),
    "run: {{time_limit: {}}}": (1e-3, 1e9),
    "run: {{silence_limit: {}}}": (1e-3, 1e9),
    "run: {{loader_workers: {}}}": (0, 1024),
    "run: {{devices: {}}}": (1, 16),  # as many as can share a batch; 1024 at most
    "run: {{threads: {}}}": (1, 1024),
    "run: {{gpu_share: {}}}": (0.1, 1),
    "pairs: [{{name: p, image: {{method: lora, rank: {}}}, text: frozen}}]": (1, 64),
    "pairs: [{{name: p, image: {{method: lora, layers: [{}]}}, text: frozen}}]": (-1, 3),
}
"""Every number of a grid, with what it may be."""


def _small(key: str, value: object) -> str:
    base = {"name": "n", "datasets": "[tiny]", "shots": "[2]", "pairs": "[frozen+frozen]"}
    place, _, rest = key.format(value).partition(": ")
    return "\n".join(f"{name}: {text}" for name, text in {**base, place: rest}.items())


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize(
    "value", [".nan", ".inf", "-.inf", "1e999", "-1e999", "true", "9" * 5000, "9" * 90, "0x" + "f" * 5000, "[[1]]", "x"]
)
def test_no_number_of_a_grid_is_without_bounds(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(MmfuseError, match=r"mine\.yaml:\d: ") as error:
        load_grid(write(tmp_path, _small(key, value))).cells()
    assert len(str(error.value)) < 1000
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("end", [0, 1])
def test_numbers_within_their_bounds_are_taken(tmp_path: Path, key: str, end: int) -> None:
    cells = load_grid(write(tmp_path, _small(key, NUMBERS[key][end]))).cells()
    assert len(cells) == 1
    assert len(cells[0].config_hash) == 64


def test_the_list_of_numbers_is_complete() -> None:
    def numbers(model: type[BaseModel]) -> set[str]:
        fields = model.model_fields.items()
        return {name for name, field in fields if {"int", "float"} & set(re.findall(r"\w+", str(field.annotation)))}

    for model, place in ((Clip, "clip"), (Train, "train"), (RunSettings, "run")):
        said = {key.rpartition(": {}")[0].rpartition(" ")[2].strip("{") for key in NUMBERS if key.startswith(place)}
        assert numbers(model) <= said


@pytest.mark.parametrize(
    ("axes", "told"),
    [
        (
            "draws: [{many}]\nseeds: [{many}]",
            "3,000 draws × 3,000 seeds are 9,000,000 cells, and a grid may have 50,000",
        ),
        ('pairs: ["*+*"]\ndraws: [{many}]', r"\d+ pairs × 3,000 draws are [\d,]+ cells"),
    ],
)
def test_the_cells_of_a_grid_are_counted_before_they_are_made(tmp_path: Path, axes: str, told: str) -> None:
    text = axes.format(many=", ".join(map(str, range(3000))))
    base = ["name: n", "datasets: [tiny]", "shots: [2]", *([] if "pairs" in axes else ["pairs: [frozen+frozen]"])]
    with pytest.raises(MmfuseError, match=rf"mine\.yaml:\d: (draws|pairs): {told}"):
        load_grid(write(tmp_path, "\n".join([*base, text])))


def test_one_long_axis_is_counted_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "MOST_CELLS", 1000)
    draws = ", ".join(map(str, range(1001)))
    text = f"name: n\ndatasets: [tiny]\nshots: [2]\npairs: [frozen+frozen]\ndraws: [{draws}]"
    with pytest.raises(MmfuseError, match=r"draws: 1,001 draws are 1,001 cells, and a grid may have 1,000"):
        load_grid(write(tmp_path, text))


def test_words_that_yaml_once_took_for_something_else_are_words(tmp_path: Path) -> None:
    text = "name: n\ndatasets: [{name: own, root: x, classes: [yes, no, on, off, 1:30, 2024-01-01, 1_0]}]\nshots: [2]\n"
    [cell] = load_grid(write(tmp_path, text + "pairs: [frozen+frozen]\ndraws: [010]")).cells()
    assert cell.dataset.classes == ["yes", "no", "on", "off", "1:30", "2024-01-01", "1_0"]
    assert cell.draw == 10


@pytest.mark.parametrize("name", ["true", "null", "1.5", "[a]"])
def test_a_class_is_called_by_a_text(tmp_path: Path, name: str) -> None:
    text = f"name: n\ndatasets: [{{name: own, root: x, classes: [a, {name}]}}]\nshots: [2]\npairs: [frozen+frozen]"
    with pytest.raises(MmfuseError, match=r"mine\.yaml:2: datasets\[0\].classes: .*quotes"):
        load_grid(write(tmp_path, text))


UNTIL = "name: g\ndatasets: [tiny]\nshots: [2, all]\npairs: [{pairs}]\ndraws: {draws}\n"


def test_draws_until_decided_expand_to_all_that_there_may_be(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(UNTIL.format(pairs="frozen+frozen, lora+frozen", draws="{at_most: 7, until: decided, for: best}"))
    loaded = load_grid(str(path))
    assert len(loaded.cells()) == 2 * 2 * 7
    rule = loaded.grid.until_decided
    assert rule is not None
    assert (rule.at_least, rule.at_most, rule.margin, rule.reference) == (3, 7, 0.5, "best")
    assert looks_of(rule) == (3, 4, 5, 7)


@pytest.mark.parametrize(
    ("draws", "place", "told"),
    [
        ("{until: decided, margin: -1}", "draws.margin", "greater than or equal to 0"),
        ("{until: decided, margin: .nan}", "draws.margin", "got nan"),
        ("{until: decided, at_least: 5, at_most: 4}", "draws", "at_most is at least at_least"),
        ("{until: decided, at_least: 2}", "draws", "fewer draws decide nothing"),
        ("{until: decided, looks: [3, 3, 10]}", "draws", "each above the one before"),
        ("{until: decided, looks: [3, 5, 12]}", "draws", "cannot be met"),
        ("{until: decided, looks: []}", "draws", "looks are numbers of draws"),
        ("{until: decided, marginn: 1}", "draws.marginn", "did you mean 'margin'?"),
        ("{until: done}", "draws.until", "decided"),
        ("{at_least: 3}", "draws.until", "this key is needed"),
        ("{until: decided, for: worst}", "draws.for", "'baseline' or 'best'"),
        ("{until: decided, at_most: 100000}", "draws.at_most", "less than or equal to 1000"),
        ("[-1]", "draws[0]", "greater than or equal to 0"),
    ],
)
def test_draws_that_cannot_be_met_are_named_with_their_line(tmp_path: Path, draws: str, place: str, told: str) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(UNTIL.format(pairs="frozen+frozen, lora+frozen", draws=draws))
    with pytest.raises(MmfuseError) as raised:
        load_grid(str(path))
    assert str(raised.value).startswith(f"{path}:5: {place}: ")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("pairs", "further", "told"),
    [
        ("frozen+frozen", "", "nothing to be compared with"),
        ("lora+frozen, dora+frozen", "", "there is no baseline"),
        (
            "frozen+frozen, lora+frozen",
            "overrides: [{where: {draws: [1]}, train: {epochs: 1}}]\n",
            "must not differ in their settings",
        ),
    ],
)
def test_draws_are_added_only_where_there_is_something_to_decide(
    tmp_path: Path, pairs: str, further: str, told: str
) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(UNTIL.format(pairs=pairs, draws="{until: decided}") + further)
    with pytest.raises(MmfuseError, match=told):
        load_grid(str(path))
