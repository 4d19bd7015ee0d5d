"""The page on adding a method: its code runs as it stands, and what it adds keeps the laws."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mmfuse.encoders import tower as towers_module
from mmfuse.methods import METHODS, attach
from tests import towers
from tests.methods.sweep import disturb

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-method.md"


@pytest.fixture
def page() -> Iterator[dict[str, Any]]:
    """The names that the page's code leaves; the catalogue is put back afterwards."""
    before, names = dict(METHODS), {"__name__": "page"}
    try:
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL):
            exec(compile(block, str(PAGE), "exec"), names)
        yield names
    finally:
        METHODS.clear()
        METHODS.update(before)


def test_the_pages_code_runs(page: dict[str, Any]) -> None:
    tower = page["model"].image_tower
    assert page["model"].trainable_parameters()["image_method"] == tower.depth * tower.width


def test_the_pages_method_keeps_the_laws(page: dict[str, Any]) -> None:
    frozen, tower, clips = towers.image_tower(), towers.image_tower(), towers.clips()
    method = attach(tower, "gain", generator=torch.Generator())
    with torch.no_grad():
        assert torch.equal(tower(clips), frozen(clips))
        disturb(tower, method)
        twin, twin_method = copy.deepcopy((tower, method))
        twin_method.factors.zero_()
        assert not torch.allclose(tower(clips), frozen(clips), atol=1e-3)
        assert not torch.allclose(tower(clips), twin(clips), atol=1e-3)
        with tower.disabled():
            assert torch.equal(tower(clips), frozen(clips))


def test_the_page_names_every_socket() -> None:
    text, tower = PAGE.read_text(encoding="utf-8"), towers.text_tower()
    of_layer = {f"`sockets.{name}`" for name in vars(towers_module.Sockets())}
    of_tower = {f"`tower.{name}`" for name in ("enter", "leave", "finish", "inserters") if hasattr(tower, name)}
    assert len(of_tower) == 4
    assert of_layer | of_tower == set(re.findall(r"^\| (`\S+`) \|", text, flags=re.MULTILINE))
