"""Files and names from strangers: they run no code, write nowhere but in their folder, and do not touch the terminal.

Archives are tried in tests/data/catalogue/test_archives.py, names of videos in tests/cli/test_predict.py, single
characters in tests/utils/test_terminal.py.
"""

from __future__ import annotations

import ast
import html
import json
import pickle
import shutil
import struct
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import mmfuse
from mmfuse.bench.grid import load_grid
from mmfuse.cli import bench, main
from mmfuse.data.catalogue.load import load_catalogue
from mmfuse.data.frames.video import UnreadableVideo, read_frames
from mmfuse.encoders import load_image_tower, load_text_tower
from mmfuse.errors import MmfuseError
from mmfuse.model.recognizer import ActionRecognizer
from mmfuse.records.cell import Cell
from mmfuse.records.folder import Damaged, ResultsFolder, read_record
from mmfuse.records.record import Record
from mmfuse.utils.files import sha256_of_json
from mmfuse.utils.terminal import UNSAFE
from tests import towers
from tests.bench.real import make_towers
from tests.report.made import build, results

DEEP = 100_000
ODD = "a\x1b[2J\x1b]0;x\x07[bold]b[/]"
PACKAGE = Path(mmfuse.__file__).parent
WITHOUT_WEIGHTS = ("transformers.AutoConfig", "tokenizer_class")
"""What reads files of JSON alone."""


# -- the code itself ---------------------------------------------------------------------------------------------------


@cache
def _calls() -> list[tuple[str, str, ast.Call]]:
    """File, what is called, and the call."""
    return [
        (path.relative_to(PACKAGE).as_posix(), ast.unparse(node.func), node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]


def _settings(call: ast.Call) -> dict[str, Any]:
    return {word.arg: getattr(word.value, "value", ...) for word in call.keywords if word.arg}


def test_nothing_is_unpickled_but_what_a_process_of_ours_sends_its_own_child() -> None:
    unpickling = {
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
        "torch.load",
        "joblib.load",
        "np.load",
        "pd.read_pickle",
    }
    assert not {(path, called) for path, called, _ in _calls() if called in unpickling}
    # What these read is pickled as well; each is one end of a pair of sockets that nobody else holds.
    piped = {path for path, called, _ in _calls() if called == "Connection"}
    assert piped == {f"bench/engines/{name}.py" for name in ("ddp", "ddp_rank", "local", "worker")}


def test_nothing_is_executed_that_was_read() -> None:
    never = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load"}
    assert not {(path, called) for path, called, _ in _calls() if called in never}
    for path, called, call in _calls():
        settings = _settings(call)
        assert settings.get("shell", False) is False, path
        if called == "yaml.load":
            assert "Safe" in ast.unparse(call), path


def test_no_code_of_a_repository_is_ever_trusted() -> None:
    readers = [(path, called, _settings(call)) for path, called, call in _calls() if called.endswith("from_pretrained")]
    assert len(readers) >= 3
    for path, called, settings in readers:
        assert settings["trust_remote_code"] is False, (path, called)
        if not called.startswith(WITHOUT_WEIGHTS):
            assert settings["weights_only"] is True, (path, called)
    for path, called, call in _calls():
        assert _settings(call).get("trust_remote_code", False) is False, (path, called)


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as we write it."""
    folder = tmp_path_factory.mktemp("sound")
    model = ActionRecognizer(
        towers.PHRASES,
        image_encoder=towers.image_tower(),
        text_encoder=towers.text_tower(),
        image_method={"method": "lora", "rank": 2},
        fusion={"kind": "joint", "width": 16, "layers": 1},
        frames=4,
    )
    model.save_trained(folder, sampling={"frames": 4, "size": 16, "short_side": 16})
    assert reload(folder).class_names == towers.PHRASES
    return folder


@pytest.fixture
def checkpoint(sound: Path, tmp_path: Path) -> Path:
    """A copy of it, to be tampered with."""
    return Path(shutil.copytree(sound, tmp_path / "model"))


def reload(folder: Path) -> ActionRecognizer:
    return ActionRecognizer.from_checkpoint(
        folder, image_encoder=towers.image_tower(), text_encoder=towers.text_tower()
    )


def refused(act: Callable[[], object]) -> str:
    """The one line that a fault is told in."""
    with pytest.raises(MmfuseError) as error:
        act()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 2000
    return str(error.value)


def tamper(folder: Path, *place: str, value: Any) -> None:
    path = folder / "recognizer.json"
    content = json.loads(path.read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "content",
    [
        b"[" * DEEP,
        b'{"format": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"null",
        b'{"format": 1, "towers": [], "arguments": {}}',
        b'{"format": 1, "towers": {"image": "x", "text": {}}, "arguments": {}}',
    ],
)
def test_a_description_that_is_none(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "recognizer.json").write_bytes(content)
    assert "recognizer.json is broken" in refused(lambda: reload(checkpoint))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_names", "abc"),
        ("class_names", [1, 2]),
        ("class_names", {"a": 1}),
        ("class_names", []),
        ("templates", ["{0.__class__} {}"]),
        ("templates", ["{}{}"]),
        ("frames", "x"),
        ("frames", -1),
        ("frames", 10**12),
        ("frames", 1e400),
        ("feature", ["both"]),
        ("fusion", ["joint"]),
        ("fusion", {"kind": ["joint"]}),
        ("fusion", {"kind": "../../joint"}),
        ("fusion", {"kind": "joint", "__class__": "x"}),
        ("fusion", {"kind": "joint", "width": 10**12}),
        ("fusion", {"kind": "joint", "width": 4096, "layers": 4096, "heads": 1}),
        ("fusion", {"kind": "joint", "width": 16, "layers": 10**9, "heads": 1}),
        ("fusion", {"kind": "joint", "width": "16"}),
        ("image_method", {"method": "os:system"}),
        ("image_method", {"method": "lora", "rank": 10**12}),
        ("image_method", {"method": "lora", "rank": None}),
        ("image_method", 5),
        ("text_method", {"method": "coop", "length": 10**12}),
        ("text_method", {"method": "peft", "type": "os.system"}),
        ("seed", "x"),
        ("seed", 2**70),
        ("image_encoder", "x"),
        ("self", 1),
        ("nothing", 1),
    ],
)
def test_arguments_that_make_no_recogniser(checkpoint: Path, name: str, value: Any) -> None:
    tamper(checkpoint, "arguments", name, value=value)
    refused(lambda: reload(checkpoint))


@pytest.mark.parametrize(
    "header",
    [
        b"{" * DEEP,
        b"",
        b"[]",
        b'{"a": {"dtype": "F32", "shape": [1099511627776, 1099511627776], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, '
        b'"b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
        b'{"a": {"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4000000000000]}}',
    ],
)
@pytest.mark.parametrize("length", [None, 2**62, 0])
def test_weights_with_a_hostile_header(checkpoint: Path, header: bytes, length: int | None) -> None:
    told = struct.pack("<Q", len(header) if length is None else length)
    (checkpoint / "trained.safetensors").write_bytes(told + header + bytes(64))
    assert "trained.safetensors cannot be read" in refused(lambda: reload(checkpoint))


class _Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_weights_that_are_a_pickle_are_not_unpickled(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("trained.safetensors", "trained.bin", "pytorch_model.bin", "trained.pt"):
        (checkpoint / name).write_bytes(pickle.dumps(_Touch(tmp_path / "run")))
    assert "cannot be read" in refused(lambda: reload(checkpoint))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name",
    ["../../nowhere", "/etc", "/etc/passwd", "a\x00b", "https://example.org/x", "~root", "x" * 5000, ODD, "", "a/b/c"],
)
def test_towers_that_lie_elsewhere(checkpoint: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    tamper(checkpoint, "towers", "image", "name", value=name)
    refused(lambda: ActionRecognizer.from_checkpoint(checkpoint, text_encoder=towers.text_tower()))


# -- towers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["../outside.safetensors", "/etc/passwd", "..", "a/b.safetensors"])
def test_an_index_does_not_lead_out_of_its_folder(named: str, tmp_path: Path) -> None:
    folder = Path(make_towers(tmp_path)["image"])
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": named}}))
    assert "leads out of its folder" in refused(lambda: load_image_tower(str(folder)))


@pytest.mark.parametrize("content", ["[" * DEEP, "[]", '{"weight_map": 5}', '{"weight_map": {"a": []}}'])
def test_an_index_that_is_none(content: str, tmp_path: Path) -> None:
    folder = Path(make_towers(tmp_path)["image"])
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    refused(lambda: load_image_tower(str(folder)))


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_code_beside_a_tower_is_not_run(file: str, tmp_path: Path) -> None:
    made = make_towers(tmp_path)
    mark = tmp_path / "run"
    for side, load in (("image", load_image_tower), ("text", load_text_tower)):
        folder = Path(made[side])
        (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Evil: pass\n")
        path = folder / file
        content = json.loads(path.read_text()) if path.exists() else {}
        own = dict.fromkeys(("AutoConfig", "AutoModel", "AutoImageProcessor"), "evil.Evil")
        path.write_text(json.dumps({**content, "auto_map": {**own, "AutoTokenizer": ["evil.Evil", "evil.Evil"]}}))
        try:
            load(str(folder))
        except MmfuseError:
            continue
    assert not mark.exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "tokenizer.json", "preprocessor_config.json"])
def test_settings_of_a_tower_that_nest_too_deeply(file: str, tmp_path: Path) -> None:
    made = make_towers(tmp_path)
    for side, load in (("image", load_image_tower), ("text", load_text_tower)):
        if (file.startswith("tok") and side == "image") or (file.startswith("pre") and side == "text"):
            continue
        (Path(made[side]) / file).write_text("[" * DEEP)
        refused(lambda load=load, side=side: load(made[side]))


# -- records -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(tmp_path: Path) -> ResultsFolder:
    """A results folder with one pair of cells, to be tampered with."""
    results(tmp_path / "results", [build("frozen+frozen"), build("dora+adapter")], lambda cell: 0.5)
    return ResultsFolder(tmp_path / "results")


def tampered(told: ResultsFolder, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change a record, and its checksum with it, as one who means it would."""
    path = next(told.records.glob("*dora+adapter*.json"))
    content = json.loads(path.read_text())
    content.pop("checksum")
    change(content)
    try:
        content["checksum"] = sha256_of_json(content)
    except ValueError:
        content["checksum"] = "0" * 64
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"[" * DEEP,
        b'{"format": 1, "cell": ' + b'{"a":' * DEEP,
        b"\xff",
        b"[]",
        b"9" * 5000,
        b'{"format": {"a": ["x"]}}',
    ],
)
def test_a_file_that_is_no_record(told: ResultsFolder, content: bytes) -> None:
    path = next(told.records.glob("*.json"))
    path.write_bytes(content)
    assert isinstance(read_record(path), Damaged)
    assert "\n" not in read_record(path).reason  # type: ignore[union-attr]


def _set(*place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("cell", "dataset", value={"name": "../../etc", "root": "/"}),
        _set("cell", "dataset", value={"name": ODD, "root": "/"}),
        _set("cell", "pair", "name", value=ODD),
        _set("cell", "pair", "image", value={"method": "os:system"}),
        _set("metrics", "top1", value=float("nan")),
        _set("metrics", "top1", value=10**400),
        _set("predictions", value={"file": 5, "sha256": "", "clips": 1}),
        _set("class_names", value=["\ud800"]),
        _set("__class__", value="os"),
    ],
)
def test_a_record_with_values_that_no_run_gives(told: ResultsFolder, change: Callable[[dict[str, Any]], None]) -> None:
    assert isinstance(read_record(tampered(told, change)), Damaged)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "..", ".", "", "a\x00b", "x" * 5000])
def test_predictions_are_read_beside_their_record_alone(told: ResultsFolder, name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "results" / "secret").write_text("secret")
    record = read_record(tampered(told, _set("predictions", value={"file": name, "sha256": "0" * 64, "clips": 1})))
    if isinstance(record, Record):
        refused(lambda: told.predictions_of(record))


def test_a_record_is_written_under_a_name_of_its_own(told: ResultsFolder, tmp_path: Path) -> None:
    record = read_record(tampered(told, _set("identity", value="../../../evil")))
    assert isinstance(record, Record)
    assert "/" not in record.stem
    before = set(tmp_path.rglob("*"))
    with pytest.raises(MmfuseError, match="cannot be called"):
        told.write(record, {"checkpoint/../../../evil": b""})
    told.write(record)
    assert {path.parent for path in set(tmp_path.rglob("*")) - before} <= {
        told.records,
        told.path,
        told.path / "superseded",
    }


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Exit code and all that is written to the terminal."""
    monkeypatch.setenv("MMFUSE_CACHE", str(tmp_path / "cache"))

    def run(module: ModuleType, *words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            module.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out + captured.err

    return run


LOOKS = [
    ["status"],
    ["status", "--json"],
    *(["tables", "--all", "--format", style] for style in ("rich", "markdown", "latex", "csv", "json", "html")),
]


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_what_stands_in_records_does_not_touch_the_terminal(call, told: ResultsFolder, words: list[str]) -> None:
    tampered(told, _set("provenance", "device", value=ODD))
    path = next(told.records.glob("*frozen+frozen*.json"))
    content = json.loads(path.read_text())
    content.pop("checksum")
    content |= {"state": "failed", "metrics": None, "predictions": None, "cost": None}
    content["error"] = {"kind": ODD, "message": f"{ODD}\r\n{ODD}", "traceback": ODD}
    path.write_text(json.dumps({**content, "checksum": sha256_of_json(content)}))
    (told.records / "x\x1b[2Jy--0.json").write_text("{}")
    code, written = call(bench, *words, "--results", told.path)
    assert code == 0
    assert not UNSAFE.search(written)


@pytest.mark.parametrize("file", ["mmfuse-results.json", "manifests/test.json"])
@pytest.mark.parametrize("content", [b"[" * DEEP, b"\xff", b"[]", b'{"format": ' + b"9" * 5000 + b"}"])
def test_other_files_of_a_results_folder(call, told: ResultsFolder, file: str, content: bytes) -> None:
    (told.path / file).write_bytes(content)
    code, written = call(bench, "status", "--results", told.path)
    assert code == 2
    assert written.count("\n") == 1


# -- grids -------------------------------------------------------------------------------------------------------------

GRID = "name: mine\ndatasets: [tiny]\nshots: [2]\npairs: [frozen+frozen]\n"


def grid(tmp_path: Path, text: str) -> str:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    return str(tmp_path / "mine.yaml")


def bomb(key: str) -> str:
    """Nine lists of nine aliases each: a billion values."""
    lines = ["b0: &b0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]" for n in range(1, 9)]
    return "\n".join(lines) + f"\n{GRID}{key}: *b8\n"


@pytest.mark.parametrize(
    "text",
    [
        GRID + "description: !!python/object/apply:os.system ['touch run']\n",
        GRID + "description: !!python/name:os.system\n",
        GRID + "description: " + "[" * 5000 + "]" * 5000 + "\n",
        bomb("description"),
        GRID.replace("[tiny]", "&a [*a]"),
        GRID + "templates: &a [*a]\n",
        GRID + "description: &a {x: *a}\n",
        GRID.replace("mine", "../../mine"),
        GRID.replace("mine", "/tmp/mine"),
        GRID.replace("mine", '"a\\e[31m"'),
        GRID.replace("mine", '".."'),
        GRID.replace("[tiny]", "[{name: ../../up, root: .}]"),
        GRID.replace("[tiny]", "[{name: /etc, root: .}]"),
        GRID.replace("[tiny]", '[{name: "a\\e[2J", root: .}]'),
        GRID.replace("[tiny]", '[{name: "a\\0", root: .}]'),
        GRID.replace("frozen+frozen", '{name: "a\\e[2J", image: lora, text: frozen}'),
        GRID.replace("frozen+frozen", '"\\e[2J+frozen"'),
        GRID.replace("frozen+frozen", "{name: a, image: {method: 'os:system'}, text: frozen}"),
        GRID + "run: {loggers: [os.system]}\n",
        "\ufeff\x00",
        "",
    ],
)
def test_a_hostile_grid_is_refused_in_one_line(
    call, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, written = call(bench, "--grid", grid(tmp_path, text), "--dry-run")
    assert code == 2, written
    assert written.count("\n") == 1
    assert len(written) < 1500
    assert not UNSAFE.search(written)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "[bold]x[/]", "a[/b]c", "%s{}", "$(id)`id`;&|", "=1+1", "-x"]
)
def test_any_other_name_of_a_pair_is_only_a_name(
    call, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = GRID.replace("frozen+frozen", json.dumps({"name": name, "image": "lora", "text": "frozen"}))
    code, written = call(bench, "--grid", grid(tmp_path, text), "--dry-run")
    assert code == 0, written
    assert name in written
    [cell] = load_grid(str(tmp_path / "mine.yaml")).cells()
    assert isinstance(cell, Cell)
    results(tmp_path / "results", [cell], lambda _: 0.5)
    for words in LOOKS:
        code, written = call(bench, *words, "--results", tmp_path / "results")
        assert code == 0
        if "latex" not in words and "markdown" not in words:
            assert name in (html.unescape(written) if "html" in words else written)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.yaml", "results", "cache"}


# -- lists of clips ----------------------------------------------------------------------------------------------------


def own(tmp_path: Path, train: str, *, test: str = "path,label\nt.mp4,a\n") -> dict[str, str]:
    (tmp_path / "train.csv").write_text(train, encoding="utf-8", newline="")
    (tmp_path / "test.csv").write_text(test, encoding="utf-8", newline="")
    return {"name": "mine", "root": str(tmp_path), "train": "train.csv", "test": "test.csv"}


@pytest.mark.parametrize(
    "path",
    ["../../x.mp4", "/etc/passwd", "a\x00b.mp4", '"a\nb.mp4"', "a\x1b[2J.mp4", "-x.mp4", "x" * 5000, "[b]x[/].mp4"],
)
def test_a_list_may_name_any_path_and_nothing_comes_of_it(call, path: str, tmp_path: Path) -> None:
    own(tmp_path, f"path,label\n{path},a\ny.mp4,b\n")
    before = set(tmp_path.iterdir())
    for words in (["data", "check", tmp_path], ["data", "split", tmp_path, "--shots", "1"]):
        code, written = call(main, *words)
        assert code in (0, 1, 2)
        assert not UNSAFE.search(written) or words[1] == "split"
        assert "Traceback" not in written
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "cache"}


@pytest.mark.parametrize("label", ["a\x1b[2J", '"a\nb"', "[bold]", "../x", "a\x00"])
def test_a_label_may_be_anything(call, label: str, tmp_path: Path) -> None:
    own(tmp_path, f"path,label\nx.mp4,{label}\ny.mp4,b\n", test="path,label\nt.mp4,b\n")
    code, written = call(main, "data", "check", tmp_path)
    assert code in (1, 2)
    assert not UNSAFE.search(written)


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "/etc", "a\x1b[31m", "a\nb"])
def test_a_data_set_of_ones_own_is_called_what_can_be_a_folder(name: str, tmp_path: Path) -> None:
    dataset = {**own(tmp_path, "path,label\nx.mp4,a\ny.mp4,b\n"), "name": name}
    assert "cannot be called" in refused(lambda: load_catalogue(dataset))


@pytest.mark.parametrize(
    "content", ["[" * DEEP, "{}", '[{"vid_name": ["x"]}]', "[5]", '[{"vid_name": "x", "label": 1e400}]']
)
def test_official_lists_that_are_none(content: str, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"Diving48_V2_{part}.json").write_text(content)
    (tmp_path / "Diving48_vocab.json").write_text(json.dumps([["Back", "15som", "05Twis", "FREE"]] * 48))
    refused(lambda: load_catalogue("diving48", annotations=tmp_path))


# -- videos ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
        "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '/etc/passwd'\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>http://127.0.0.1:9/</BaseURL></MPD>",
    ],
)
def test_a_list_of_other_files_is_no_video(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text(content)
    with pytest.raises(UnreadableVideo):
        read_frames(tmp_path / "a.mp4", lambda count: torch.arange(1).numpy())
