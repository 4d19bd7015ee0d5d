"""A browser for the tests of the page: one for the whole session, with a profile of its own."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmfuse.bench.clip_frames import ClipFrames
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.records.cell import Cell
from mmfuse.records.status import read_entries
from mmfuse.report.page.build import build_page
from tests.data.videos import encode
from tests.report.scenes import IMAGE, hostile

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1200,900",
)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    yield found
    found.quit()


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of names that mean harm, with the frames of one clip."""
    root = tmp_path_factory.mktemp("videos")
    for part, name in itertools.product(("train", "test"), ("a", "b")):
        encode(root / part / name / f"{name}.mp4", codec="libx264", count=9)
    datasets = [{"name": f"mine {IMAGE}", "root": str(root)}, "hmdb51"]
    folder = hostile(tmp_path_factory.mktemp("hostile"), datasets=datasets)
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(build_page(folder, read_entries(folder), read_frames=ClipFrames(find)), encoding="utf-8")
    return page


def find(cell: Cell) -> Catalogue:
    """The clips of a cell's data set, as the command finds them."""
    return load_catalogue(cell.dataset.request(), split=cell.split, annotations=Path("nowhere"))
