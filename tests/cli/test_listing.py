"""What `list methods` tells of training."""

from __future__ import annotations

import json

import pytest

from mmfuse.cli.listing import show_list
from mmfuse.methods.recipes import RECIPES
from mmfuse.methods.registry import METHODS


def test_methods_are_listed_with_the_learning_rate_of_their_family(capsys: pytest.CaptureFixture[str]) -> None:
    show_list("methods", json=True)
    rates = {row["method"]: row["learning rate"] for row in json.loads(capsys.readouterr().out)}
    assert rates.pop("frozen") is None
    assert rates == {name: RECIPES[info.family].lr for name, info in METHODS.items() if name != "frozen"}


def test_what_trains_nothing_has_a_dash_for_a_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")  # narrower ones get a block for each method, without what it lacks
    show_list("methods", json=False)
    [frozen] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("frozen")]
    assert "–" in frozen
    assert "None" not in frozen
