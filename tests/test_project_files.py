"""The files about the project agree with each other and with the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture
def citation() -> Any:
    return yaml.safe_load(read("CITATION.cff"))


def test_the_version_is_one(citation: Any) -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert citation["version"] == version
    latest = re.findall(r"^## \[(.+?)\]", read("CHANGELOG.md"), flags=re.MULTILINE)[0]
    assert latest in (version, "Unreleased")


def test_the_citation_has_what_the_format_asks_for(citation: Any) -> None:
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == tomllib.loads(read("pyproject.toml"))["project"]["license"]
    [paper] = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    for page in ("README.md", "docs/protocol.md"):
        text = " ".join(read(page).split())
        assert paper["title"] in text
        assert paper["doi"] in text
        assert f"pp. {paper['start']}–{paper['end']}" in text


def test_every_link_to_a_file_leads_to_one() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", read(page)):
            assert (ROOT / target).exists(), f"{page}: {target}"


def test_what_contributors_are_told_to_run_is_there() -> None:
    targets = re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE)
    told = re.findall(r"^ {4}make (\w+)", read("CONTRIBUTING.md"), flags=re.MULTILINE)
    assert told
    assert set(told) <= set(targets)
    assert "make docs" in read(".ci/run")
