"""What real cells need: towers and clips small enough for a test, and a cache folder of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.real import make_clips, make_towers


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_towers(tmp_path_factory.mktemp("towers"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of the test, which is not there yet."""
    monkeypatch.setenv("MMFUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
