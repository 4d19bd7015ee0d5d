"""What a report opens with: the best pair, the cheapest one close to it, and what is open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from mmfuse.records.folder import Manifest, ResultsFolder
from mmfuse.records.status import read_entries
from mmfuse.records.until_decided import UntilDecided
from mmfuse.report.answer import Answer
from mmfuse.report.gains import draws_to_hold, gains_of
from mmfuse.report.groups import Group, groups
from mmfuse.report.plots.forest import Forest
from mmfuse.report.plots.points import Plots
from mmfuse.report.statistics import LEVEL, behrens_fisher_p, holm
from mmfuse.report.tables.accuracy import Comparison
from tests.report.made import build, results
from tests.report.scenes import plain

LEVELS = {"frozen+frozen": 0.40, "dora+adapter": 0.60, "lora+frozen": 0.598, "ia3+frozen": 0.41, "bitfit+frozen": 0.37}
DRAWS = 4


def group(path: Path, *, rule: UntilDecided | None = None, weights: Mapping[str, int] | None = None) -> Group:
    """Five pairs at two K, the frozen towers with one draw more, whose draw is hard; by a rule where one is given."""

    def top1(cell: object) -> float | str:
        name, draw = cell.pair.name, cell.draw  # type: ignore[attr-defined]
        if draw == DRAWS and name != "frozen+frozen":
            return "missing"
        wobble = np.random.default_rng([len(name), draw]).normal(0, 0.006)
        return LEVELS[name] - 0.1 * (draw == DRAWS) + float(wobble)

    cells = [build(pair, shots=shots, draw=draw) for pair in LEVELS for shots in (8, 16) for draw in range(DRAWS + 1)]
    if rule is not None:
        cells = [cell for cell in cells if cell.draw < DRAWS or cell.pair.frozen]
    results(path, cells, top1)
    folder = ResultsFolder(path)
    if rule is not None:
        [plan] = folder.manifests()
        folder.write_manifest(Manifest(plan.grid, plan.cells, until_decided=rule))
    for entry in read_entries(folder):
        if entry.record is not None and weights is not None:
            assert entry.record.parameters is not None
            trained = entry.record.parameters.model_copy(update={"image_method": weights[entry.cell.pair.name],
                                                                 "text_method": 0})  # fmt: skip
            folder.write(entry.record.model_copy(update={"parameters": trained}))
    [found] = groups(read_entries(folder), folder)
    return found


def answer(found: Group) -> Answer:
    return Answer(Plots(Comparison(found)))


def test_gains_are_those_of_the_table(tmp_path: Path) -> None:
    found = answer(group(tmp_path))
    column = {row.name: row.values[-1] for row in found.comparison.table.rows}
    assert set(found.gains) == set(LEVELS) - {"frozen+frozen"}
    for pair, gain in found.gains.items():
        assert gain.value == column[pair]
    assert found.gains["dora+adapter"].verdict == "better"
    assert found.gains["bitfit+frozen"].verdict in ("worse", "open")
    forest = Forest([found])
    assert forest.pairs == ["dora+adapter", "lora+frozen", "ia3+frozen", "bitfit+frozen"]
    assert 0.0 in forest.labels
    for gain in found.gains.values():
        assert gain.mean is not None
        bar = forest.bar(gain.mean)
        assert bar.at == pytest.approx(forest.scale.share(gain.mean.mean))
        assert bar.draws is not None
        assert bar.draws[0] < bar.at < bar.draws[1]


def test_the_cheapest_within_the_margin_is_that_by_its_mean(tmp_path: Path) -> None:
    price = {"frozen+frozen": 0, "dora+adapter": 900, "lora+frozen": 300, "ia3+frozen": 10, "bitfit+frozen": 100}
    found = answer(group(tmp_path, weights=price))
    assert found.best is not None
    assert found.best.pair == "dora+adapter"
    assert found.cheaper is not None
    assert (found.cheaper.pair, found.cheaper.weights, found.cheaper.share) == (
        "lora+frozen",
        300,
        pytest.approx(1 / 3),
    )
    assert found.cheaper.behind == found.comparison.difference("dora+adapter", "lora+frozen", found.best.span)
    assert found.cheaper.behind.mean <= found.margin


def test_open_gains_hold_with_the_draws_that_are_foretold_and_not_with_fewer() -> None:
    told = {"draws": 3, "error": 0.6, "error_clips": 0.3, "comparisons": 5}
    total = draws_to_hold(2.0, **told)  # type: ignore[arg-type]
    assert total is not None

    def marked(n: int) -> bool:
        error = 0.6 * np.sqrt(3 / n)
        p = float(behrens_fisher_p(np.array(2.0), np.array(error), np.array(0.3), degrees=n - 1))
        corrected = holm([p] * 5)[0]
        assert corrected is not None
        return corrected < LEVEL

    assert marked(total)
    assert not marked(total - 1)


def test_a_gain_over_several_k_has_the_mean_of_its_verdicts_intervals(tmp_path: Path) -> None:
    rule = UntilDecided.model_validate({"until": "decided", "at_least": 4, "at_most": 5, "margin": 2.0})
    found = answer(group(tmp_path, rule=rule))
    assert found.margin == 2.0
    decided = [one for one in found.group.decisions if one.pair == "dora+adapter"]
    assert len(decided) == 2
    gain = found.gains["dora+adapter"]
    assert gain.mean is not None
    assert gain.mean.half == pytest.approx(np.mean([one.half for one in decided if one.half is not None]))
    assert gain.verdict == "better"
    assert found.best is not None  # the frozen towers have a hard draw more, and most pairs have not
    assert found.best.pair == "dora+adapter"
    assert Forest([found]).judged


def test_draws_that_were_added_for_the_best_leave_gains_without_an_interval(tmp_path: Path) -> None:
    rule = UntilDecided.model_validate({"until": "decided", "at_least": 4, "at_most": 5, "for": "best"})
    found = answer(group(tmp_path, rule=rule))
    assert {gain.verdict for gain in found.gains.values()} == {"untested"}
    assert all(gain.mean is not None and gain.mean.half is None for gain in found.gains.values())


def test_without_frozen_towers_or_results_there_are_no_gains(tmp_path: Path) -> None:
    folder = plain(
        tmp_path, pairs=["dora+adapter"], skip=[("dora+adapter", k, d) for k in (2, "all") for d in range(3)]
    )
    [found] = groups(read_entries(folder), folder)
    assert gains_of(Comparison(found)) == []
    assert answer(found).best is None
    assert answer(found).questions == []
    assert Forest([answer(found)]).panels == []
