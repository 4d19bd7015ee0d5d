"""Where a tower's name leads: to a folder, to the hub's cache, and only then to the hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from mmfuse.encoders import hub
from mmfuse.encoders.hub import check_available, find_folder
from mmfuse.errors import MmfuseError, one_line
from tests import towers

HUB_ID = "someone/some-tower"


def files(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub; its place for `HUB_ID`."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    lookup = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda repo, file: lookup(repo, file, cache_dir=tmp_path)
    )
    folder = tmp_path / "models--someone--some-tower"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    return folder / "snapshots" / "abc"


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MmfuseError("the hub was asked")

    monkeypatch.setattr(hub, "_ask_hub", refuse)


def test_a_local_folder(tmp_path: Path) -> None:
    folder = files(tmp_path / "tower", "config.json", "model.safetensors")
    assert find_folder(str(folder), "image") == folder
    with pytest.raises(MmfuseError, match="has no tokenizer, neither"):
        find_folder(str(folder), "text")
    for names in (["tokenizer.json"], ["vocab.json", "merges.txt"], ["spiece.model"]):
        other = files(tmp_path / names[0], "config.json", "model.safetensors", *names)
        assert find_folder(str(other), "text") == other


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"has no config\.json; give a folder that `save_pretrained` wrote"),
        (["config.json"], r"has no weights called model\.safetensors or pytorch_model\.bin; fetch it again"),
        (["config.json", "flax_model.msgpack"], r"only flax_model\.msgpack, a format that is not read"),
    ],
)
def test_what_a_folder_lacks_is_named(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match=message):
        find_folder(str(files(tmp_path / "tower", *names)), "image")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = files(tmp_path / "tower", "config.json", "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(MmfuseError, match=r"lacks model-2\.safetensors, which its index names"):
        find_folder(str(folder), "image")
    files(folder, "model-2.safetensors")
    assert find_folder(str(folder), "image") == folder


@pytest.mark.parametrize("name", ["nonsense", "./nowhere", "~/nowhere", "/nowhere/at-all", "a/b/c", ""])
def test_a_name_that_leads_nowhere(name: str, unreachable: None) -> None:
    with pytest.raises(MmfuseError, match=r"is neither embedded .* nor a folder that exists, nor a hub id"):
        find_folder(name or "no name", "image")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = files(tmp_path, "model.safetensors") / "model.safetensors"
    with pytest.raises(MmfuseError, match="is a file; give the folder in hub layout that holds it"):
        find_folder(str(path), "image")


def test_an_embedded_tower_is_of_one_kind() -> None:
    with pytest.raises(MmfuseError, match="'tiny-dinov2' is the embedded image tower; a text tower is wanted"):
        find_folder("tiny-dinov2", "text")


def test_the_hubs_cache_is_used_without_asking_the_hub(cache: Path, unreachable: None) -> None:
    files(cache, "config.json", "model.safetensors")
    assert find_folder(HUB_ID, "image") == cache
    with pytest.raises(MmfuseError, match="the hub was asked"):  # no tokenizer in the cache
        find_folder(HUB_ID, "text")


def test_half_a_tower_in_the_cache_is_not_enough(cache: Path, unreachable: None) -> None:
    files(cache, "config.json")
    with pytest.raises(MmfuseError, match="the hub was asked"):
        find_folder(HUB_ID, "image")


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        (["model.safetensors", "pytorch_model.bin", "flax_model.msgpack"], {"model.safetensors"}),
        (
            [
                "model-1-of-2.safetensors",
                "model-2-of-2.safetensors",
                "model.safetensors.index.json",
                "pytorch_model.bin",
            ],
            {"model-1-of-2.safetensors", "model-2-of-2.safetensors", "model.safetensors.index.json"},
        ),
        (["pytorch_model.bin", "tf_model.h5"], {"pytorch_model.bin"}),
    ],
)
def test_only_what_is_needed_is_downloaded(
    weights: list[str], wanted: set[str], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = ["README.md", "config.json", "tokenizer.json", *weights]

    def download(repository: str, *, allow_patterns: list[str]) -> str:
        assert repository == HUB_ID
        folder = files(tmp_path / "fetched", *allow_patterns)
        if "model.safetensors.index.json" in allow_patterns:
            parts = {"weight_map": {name: name for name in allow_patterns if "-of-" in name}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(parts))
        return str(folder)

    monkeypatch.setattr(hub, "_ask_hub", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda _: listed)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    serve_config(monkeypatch, tmp_path, model_type="clip")
    check_available(HUB_ID, "text")
    assert not (tmp_path / "fetched").exists()
    fetched = find_folder(HUB_ID, "text")
    assert {path.name for path in fetched.iterdir()} == wanted | {"config.json", "tokenizer.json"}


def serve_config(monkeypatch: pytest.MonkeyPatch, folder: Path, **config: object) -> None:
    """Let the hub give a config.json, and nothing else."""

    def download(repository: str, file: str) -> str:
        assert (repository, file) == (HUB_ID, "config.json")
        (folder / "served").mkdir(exist_ok=True)
        (folder / "served" / file).write_text(json.dumps(config))
        return str(folder / "served" / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)


@pytest.mark.parametrize(
    ("listed", "config", "kind", "message"),
    [
        (
            ["config.json", "model.safetensors"],
            {"model_type": "timesformer"},
            "image",
            r"is a .timesformer. checkpoint",
        ),
        (["config.json", "tf_model.h5"], {"model_type": "dinov2"}, "image", r"only tf_model\.h5, a format that is not"),
        (["config.json", "model.safetensors"], {"model_type": "clip"}, "text", "has no tokenizer"),
        (["PE-Core-B16-224.pt", "README.md"], {}, "image", r"has no config\.json, only PE-Core-B16-224\.pt: pickles"),
    ],
)
def test_a_repository_that_holds_no_tower_is_refused_before_its_weights_are_fetched(
    listed: list[str],
    config: dict[str, str],
    kind: str,
    message: str,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were fetched")

    monkeypatch.setattr(hub, "_ask_hub", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda _: listed)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    serve_config(monkeypatch, tmp_path, **config)
    for ask in (check_available, find_folder):
        with pytest.raises(MmfuseError, match=message):
            ask(HUB_ID, kind)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_whether_a_tower_can_be_loaded_is_told_without_torch(kind: str, tmp_path: Path) -> None:
    tower = towers.image_tower() if kind == "image" else towers.text_tower()
    whole = towers.save_in_hub_layout(tower, tmp_path / "whole")
    bare = files(tmp_path / "bare", "config.json")
    script = (
        "import sys; from mmfuse.encoders.hub import check_available; from mmfuse.errors import MmfuseError\n"
        f"check_available({str(whole)!r}, {kind!r})\n"
        f"try: check_available({str(bare)!r}, {kind!r})\n"
        "except MmfuseError: print('refused', 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused", "False"]


def test_a_hub_that_cannot_be_reached_is_one_line() -> None:
    script = (
        "from mmfuse.encoders.hub import check_available, find_folder; from mmfuse.errors import MmfuseError\n"
        f"try: find_folder({HUB_ID!r}, 'image')\n"
        "except MmfuseError as error: print(error)"
    )
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": os.devnull}  # nobody listens on the discard port
    for settings, reason in ((closed, ".*"), ({**closed, "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set")):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ, **settings}
        )
        assert done.stderr == "", "the hub's client tried again"
        line = done.stdout.strip()
        assert "\n" not in line
        assert line.startswith(f"image tower '{HUB_ID}' is not in the hub's cache and the hub cannot be reached (")
        assert f"run `hf download {HUB_ID} --local-dir FOLDER`, and give the path of that folder instead" in line
        assert reason == ".*" or reason in line


def test_long_reasons_are_cut() -> None:
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(ValueError()) == "ValueError()"
    assert len(one_line("x" * 1000)) == 300


def test_a_saved_tower_is_complete(tmp_path: Path) -> None:
    assert find_folder(str(towers.save_in_hub_layout(towers.text_tower(), tmp_path)), "text") == tmp_path
