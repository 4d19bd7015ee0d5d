"""The built site: it opens from disk, asks nothing of the network, and its search works there too."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.sharing import once, shared_folder

ROOT = Path(__file__).parents[2]
# What a browser fetches by itself: not the target of a link that a reader may follow.
FETCHED = re.compile(r"<(?:link|script|img|iframe|source|object|embed)\b[^>]*?(?:href|src|data)=[\"']?([^\"' >]+)")


def sources() -> Iterator[Path]:
    """All that the site is made from."""
    yield ROOT / "mkdocs.yml"
    for folder in ("docs", "mmfuse", "benchmarks", "data_splits"):
        for path in (ROOT / folder).rglob("*.*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The site as `make docs` builds it; the one that it has built, where nothing has changed since."""
    built = ROOT / "build" / "docs" / "index.html"
    if built.exists() and built.stat().st_mtime > max(path.stat().st_mtime for path in sources()):
        return built.parent

    def build(folder: Path) -> None:
        done = subprocess.run(
            [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--quiet", "--site-dir", folder],
            cwd=ROOT,
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert not done.stderr

    return once(shared_folder(tmp_path_factory, worker_id) / "site", build)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = sorted(site.glob("*.html"))
    assert {page.stem for page in pages} >= {page.stem for page in (ROOT / "docs").glob("*.md")}
    for page in pages:
        fetched = FETCHED.findall(page.read_text(encoding="utf-8"))
        assert len(fetched) > 3
        assert not [address for address in fetched if re.match(r"(\w+:)?//", address)], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_nothing_is_left_unmade_and_no_source_is_shipped(site: Path) -> None:
    for page in site.glob("*.html"):
        assert not re.search(r"<!-- (made|check):", page.read_text(encoding="utf-8")), page.name
    assert not list(site.rglob("*.py"))
    assert not list(site.rglob("*.yaml"))


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Chromium without a window, whose requests and messages are kept."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}/user"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    yield made
    made.quit()


def test_it_opens_from_disk_and_its_search_finds(site: Path, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get((site / "index.html").as_uri())
    assert browser.find_element(By.TAG_NAME, "h1").text.startswith("Start here")
    box = browser.find_element(By.CSS_SELECTOR, "input.md-search__input")
    browser.execute_script("document.getElementById('__search').click(); arguments[0].focus()", box)
    box.send_keys("Holm")
    found = WebDriverWait(browser, 60).until(
        lambda page: page.find_elements(By.CSS_SELECTOR, ".md-search-result__item a.md-search-result__link")
    )
    assert any("tables.html" in str(link.get_attribute("href")) for link in found)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert any(address.endswith("index.html") for address in asked)
    assert not [address for address in asked if not address.startswith(("file:", "data:", "blob:", "about:", "chrome"))]
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
