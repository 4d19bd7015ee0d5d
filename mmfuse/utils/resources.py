"""Files that ship with the package: in a wheel they lie inside it, in a checkout beside it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def package_folder() -> Path:
    """The code of this package."""
    return _PACKAGE


def _shipped(name: str, in_checkout: str) -> Path:
    inside = _PACKAGE / "shipped" / name
    return inside if inside.exists() else _PACKAGE.parent / in_checkout


def grids_folder() -> Path:
    """The grids that are known by name (`smoke.yaml`, `demo.yaml`, …)."""
    return _shipped("grids", "benchmarks/grids")


def cards_folder() -> Path:
    """One card a data set, and the fingerprints of the certified draws."""
    return _shipped("data_splits", "data_splits")


def literature_file() -> Path:
    """Published numbers, each with its source."""
    return _shipped("literature.yaml", "benchmarks/literature.yaml")


def assets_folder() -> Path:
    """The embedded tiny towers, in hub layout."""
    return _PACKAGE / "assets"
