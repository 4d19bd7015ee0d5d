"""The house: imports flow one way, and what plans, tabulates and reports loads no torch.

Read from the source (`ast`), so that an import inside a function counts as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mmfuse"

FLOORS = (
    {"errors", "version"},
    {"utils"},
    {"statistics"},
    {"data"},
    {"encoders"},
    {"methods"},
    {"model"},
    {"inference"},
    {"records"},
    {"bench"},
    {"report"},
    {"cli"},
)
"""Each may import from those before it, and from itself."""

STRANGERS = [
    # Only `bench` and `inference` join data and model.
    *(("data", side) for side in ("encoders", "methods", "model")),
    *((side, "data") for side in ("encoders", "methods", "model")),
    # What is reported comes from records, whoever made them.
    *(("report", other) for other in ("data", "encoders", "methods", "model", "inference", "bench")),
    *(("records", other) for other in ("data", "encoders", "model", "inference")),
]
"""Floors that know nothing of each other, although their order would let them."""

EXCEPTIONS: set[tuple[str, str]] = set()
"""Arrows that the flow forbids, each with its reason."""

LIGHT = (
    "",
    "records",
    "report",
    "statistics",
    "errors",
    "version",
    "cli.bench",
    "cli.main",
    "cli.status",
    "cli.tables",
    "cli.common",
)
"""Modules and folders that load no torch when they are imported."""
HEAVY = {"torch", "lightning", "transformers", "peft", "torchmetrics"}


def _modules() -> dict[str, Path]:
    """Every module of the package by name without `mmfuse.`; the package itself is ""."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _is_for_types_alone(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _statements(node: ast.AST, *, eager: bool) -> Iterator[ast.AST]:
    """All statements but those for types alone; where `eager`, not those of functions either."""
    for child in ast.iter_child_nodes(node):
        if _is_for_types_alone(child) or (eager and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
            continue
        yield child
        yield from _statements(child, eager=eager)


@cache
def _imports(module: str, *, eager: bool) -> frozenset[str]:
    """What a module imports: full names, `mmfuse.` included."""
    found: set[str] = set()
    for node in _statements(ast.parse(MODULES[module].read_text(encoding="utf-8")), eager=eager):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide where a module lies"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            inside = {name for name in names if name.removeprefix("mmfuse.") in MODULES}
            found |= inside or {str(node.module)}
    return frozenset(found)


def _ours(module: str, *, eager: bool = False) -> set[str]:
    """The modules of the package that a module imports."""
    found = {name.removeprefix("mmfuse").removeprefix(".") for name in _imports(module, eager=eager) if _is_ours(name)}
    return found - {module}


def _is_ours(name: str) -> bool:
    return name == "mmfuse" or name.startswith("mmfuse.")


def _floor(module: str) -> int:
    top = module.partition(".")[0]
    return next(at for at, floor in enumerate(FLOORS) if top in floor)


def _arrows() -> Iterator[tuple[str, str]]:
    for module in MODULES:
        for other in _ours(module):
            if module and other:  # the package's face hands out names of every floor, lazily
                yield module, other


def test_every_module_has_its_floor() -> None:
    tops = {module.partition(".")[0] for module in MODULES if module}
    assert tops - {"assets"} == set().union(*FLOORS) - {floor for floor in ("statistics",) if floor not in tops}


def test_imports_flow_one_way() -> None:
    back = {(module, other) for module, other in _arrows() if _floor(other) > _floor(module)}
    assert back - EXCEPTIONS == set()


def test_floors_that_know_nothing_of_each_other() -> None:
    tops = {(module, other): (module.partition(".")[0], other.partition(".")[0]) for module, other in _arrows()}
    assert {arrow for arrow, floors in tops.items() if floors in STRANGERS} - EXCEPTIONS == set()


def test_no_exception_has_outlived_its_reason() -> None:
    assert set(_arrows()) >= EXCEPTIONS


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: {other for other in _ours(module) if other} for module in MODULES}
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module in done:
            return
        for other in sorted(graph[module]):
            if (module, other) not in EXCEPTIONS:
                walk(other, (*way, module))
        done.add(module)

    for module in graph:
        walk(module, ())


def _loaded(module: str) -> dict[str, tuple[str, ...]]:
    """All that importing a module loads, each with the way that leads there."""
    found: dict[str, tuple[str, ...]] = {}
    waiting = [(module, (module,))]
    while waiting:
        current, way = waiting.pop()
        for name in _imports(current, eager=True):
            inner = name.removeprefix("mmfuse").removeprefix(".") if _is_ours(name) else None
            if inner is None:
                found.setdefault(name.partition(".")[0], way)
                continue
            # Importing a module runs the face of every folder that it lies in.
            parts = inner.split(".")
            for face in {".".join(parts[:depth]) for depth in range(len(parts) + 1)}:
                if face in MODULES and f"mmfuse:{face}" not in found:
                    found[f"mmfuse:{face}"] = way
                    waiting.append((face, (*way, face)))
    return found


@pytest.mark.parametrize(
    "module",
    [name for name in MODULES if any(name == light or (light and name.startswith(f"{light}.")) for light in LIGHT)],
)
def test_what_plans_tabulates_and_reports_loads_no_torch(module: str) -> None:
    loaded = _loaded(module)
    assert {name: " -> ".join(loaded[name]) for name in HEAVY & loaded.keys()} == {}
