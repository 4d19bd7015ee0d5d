"""The table of methods: quick to read, true to the classes, and open to other packages."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mmfuse.errors import MmfuseError
from mmfuse.methods.base import _implementation
from mmfuse.methods.registry import METHODS, MethodInfo, add, names, parse_method


def run(script: str, *, path: Path | None = None) -> str:
    prepared = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    done = subprocess.run(
        [sys.executable, "-c", prepared + textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_table_is_read_without_torch() -> None:
    script = """
        import sys
        from mmfuse.methods.registry import names, parse_pair
        parse_pair("dora+adapter"), names()
        print("torch" in sys.modules)
    """
    assert run(script) == "False"


@pytest.mark.parametrize("name", METHODS)
def test_the_tables_defaults_are_the_classes(name: str) -> None:
    parameters = inspect.signature(_implementation(METHODS[name])).parameters.values()
    given = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "generator"}
    if name == "peft":
        assert given.pop("type") is inspect.Parameter.empty
    assert {key: value for key, value in METHODS[name].defaults.items() if value != "required"} == given
    assert METHODS[name].takes_any is any(p.kind is p.VAR_KEYWORD for p in parameters)


def test_every_class_says_what_it_is_and_where_from() -> None:
    for info in METHODS.values():
        text = inspect.getdoc(_implementation(info)) or ""
        assert "Args:" in text or info.name in {"full", "bitfit", "ln", "adapter"}, info.name
        year = info.paper.split(",")[0].split(" ")[-1]
        assert info.family in {"baseline", "other"} or info.name == "adapter" or year in text, info.name


def test_a_name_is_taken_once() -> None:
    info = METHODS["lora"]
    add(info)  # the same again is no fault: a cell of a notebook may run twice
    with pytest.raises(MmfuseError, match="the method name 'lora' is taken; choose another"):
        add(MethodInfo("lora", info.towers, "adapter", "", "another", "somewhere:else"))
    assert METHODS["lora"] is info


def test_a_wrong_argument_is_found_before_torch_is_needed() -> None:
    with pytest.raises(MmfuseError, match="unknown argument of method 'vpt-deep' 'lenght'; did you mean 'length'"):
        parse_method({"method": "vpt-deep", "lenght": 4}, "image")
    parsed = parse_method({"method": "peft", "type": "HRA", "r": 8}, "image")
    assert (parsed.name, parsed.arguments) == ("peft", {"type": "HRA", "r": 8})
    assert parse_method(parsed, "image") is parsed


def test_both_towers_have_their_own_methods() -> None:
    assert {"vpt-deep", "st-adapter", "aim"} <= set(names("image")) - set(names("text"))
    assert set(names("text")) - set(names("image")) == {"coop", "deep-prompt"}
    assert set(names()) == set(names("image")) | set(names("text"))


def install(folder: Path, *, module: str, value: str) -> None:
    """A package as pip leaves it: a module, and metadata that announces its method."""
    (folder / "gains.py").write_text(module, encoding="utf-8")
    information = folder / "gains-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: gains\nVersion: 1.0\n", encoding="utf-8")
    (information / "entry_points.txt").write_text(f"[mmfuse.methods]\ngain = {value}\n", encoding="utf-8")


def test_an_installed_package_brings_its_methods(tmp_path: Path) -> None:
    module = """
        from mmfuse.methods import register
        from mmfuse.methods.base import Frozen

        @register(name="gain", towers=("image",), family="scaling", paper="", summary="nothing yet")
        class Gain(Frozen):
            pass
    """
    install(tmp_path, module=textwrap.dedent(module), value="gains:Gain")
    script = """
        from mmfuse.methods import names
        from mmfuse.methods import catalogue, parse_pair
        print(parse_pair("gain+frozen"), names("image")[-1], [info.summary for info in catalogue()][-1])
    """
    assert run(script, path=tmp_path) == "('gain', 'frozen') gain nothing yet"


def test_a_broken_package_is_named(tmp_path: Path) -> None:
    install(tmp_path, module="import nothing_like_this", value="gains:Gain")
    script = """
        from mmfuse.errors import MmfuseError
        from mmfuse.methods import names
        try:
            names()
        except MmfuseError as error:
            print(error)
    """
    expected = "the method 'gain' of gains:Gain cannot be imported: No module named 'nothing_like_this'"
    assert run(script, path=tmp_path) == expected
