"""Searches with an objective that is computed and not trained: budgets, failures, giving up early, going on."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmfuse.bench.tuning import sampler as sampling
from mmfuse.bench.tuning.budget import Budget, parse_budget
from mmfuse.bench.tuning.choice import choose, difference
from mmfuse.bench.tuning.sampler import UNPRUNED, need_optuna
from mmfuse.bench.tuning.search import GivenUp, OutOfTime, Search, Searches
from mmfuse.bench.tuning.space import METHOD_LR, space_of, with_settings
from mmfuse.bench.tuning.trials import MOST_BEGINNINGS, Journal, Trial
from mmfuse.errors import MmfuseError
from mmfuse.methods.registry import METHODS, catalogue
from mmfuse.records.cell import Cell, Pair

CLIPS = 60
GROUPS = [f"source {number // 2}" for number in range(CLIPS)]


def cell(pair: str = "lora+frozen", **settings: Any) -> Cell:
    image, text = pair.split("+")
    return Cell(dataset={"name": "tiny"}, pair={"name": pair, "image": image, "text": text}, shots=8, **settings)


def right(point: dict[str, Any]) -> int:
    """How many clips a setting recognises: best at a tenth of the recipe's rate and a high rank."""
    away = abs(math.log10(point[METHOD_LR] / 1e-4))
    return max(0, round(40 - 12 * away + point.get("image.rank", 8) / 4))


class Objective:
    """Recognises more or fewer clips; each call is kept, and may be made to fail."""

    def __init__(
        self, *, faults: dict[int, BaseException] | None = None, clock: Any = None, seconds: float = 1.0
    ) -> None:
        self.points: list[dict[str, Any]] = []
        self.faults, self._clock, self._seconds = faults or {}, clock, seconds

    def __call__(self, point: dict[str, Any], *, goes_on: Any, in_time: Any) -> str:
        self.points.append(dict(point))
        if (fault := self.faults.pop(len(self.points) - 1, None)) is not None:
            raise fault
        share = right(point) / CLIPS
        for step, part in ((1, 0.5), (3, 0.8), (6, 0.9), (9, 1.0)):
            if self._clock is not None:
                self._clock.now += self._seconds / 4
            if not in_time():
                raise OutOfTime
            if not goes_on(step, share * part) and step < 9:
                raise GivenUp
        return "1" * right(point) + "0" * (CLIPS - right(point))


class Silent:
    """Shows nothing, and remembers how trials ended."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def began(self, *_: Any) -> None:
        pass

    def ended(self, _: Search, trial: Trial) -> None:
        self.states.append(trial.state)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(path: Path, objectives: dict[str, Any], budget: Budget, *, view: Any = None, **more: Any) -> list[Trial]:
    searches = [Search(name, name, space_of(cell(name)), objective) for name, objective in objectives.items()]
    with Journal(path, {"of": "a test"}) as journal:
        Searches(searches, journal, budget, seed=3, view=view or Silent(), **more).run()
        return list(journal.trials)


def told(trials: list[Trial]) -> list[Any]:
    return [{**trial.document(), "seconds": 0} for trial in trials]


# --- what is searched --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tower", ["image", "text"])
def test_every_method_of_the_catalogue_declares_a_space_that_its_cells_accept(tower: str) -> None:
    for info in catalogue():
        if tower not in info.towers or info.takes_any:
            continue
        pair = f"{info.name}+frozen" if tower == "image" else f"frozen+{info.name}"
        space = space_of(cell(pair))
        for one in space.dimensions:
            values = one.choices or (one.low, one.high)
            assert one.default in values or (one.choices is None and one.low < one.default < one.high), one
            for value in values:
                changed = with_settings(space.cell, space.settings({one.key: value}))
                assert (changed.config_hash == space.cell.config_hash) is (value == one.default), one
        assert (METHOD_LR in space.defaults) is (info.name != "frozen")


def test_arguments_that_take_no_argument_are_not_declared() -> None:
    for info in METHODS.values():
        assert set(info.searched) <= set(info.defaults), info.name


def test_what_a_pair_says_itself_is_not_searched() -> None:
    wide = Pair(name="wide", image={"method": "lora", "rank": 32}, text="frozen")
    assert "image.rank" in space_of(cell()).defaults
    assert "image.rank" not in space_of(cell().model_copy(update={"pair": wide})).defaults


def test_the_default_point_leaves_a_cell_as_it_is_where_two_methods_have_rates_of_their_own() -> None:
    space = space_of(cell("lora+coop"))
    assert space.settings(space.defaults) == {}
    assert with_settings(space.cell, {}).recipes == cell("lora+coop").recipes


# --- the search --------------------------------------------------------------------------------------------------


def test_a_killed_search_goes_on_as_one_that_was_not(tmp_path: Path) -> None:
    budget = Budget(trials=14)
    whole = run(tmp_path / "whole", {"lora+frozen": Objective(), "dora+frozen": Objective()}, budget)
    path = tmp_path / "killed"
    for kill_at in (1, 7, 3):  # while sampling at random, and while it learns from what was
        interrupted = {"lora+frozen": Objective(faults={kill_at: KeyboardInterrupt()}), "dora+frozen": Objective()}
        with pytest.raises(KeyboardInterrupt):
            run(path, interrupted, budget)
    with Journal(path, {"of": "a test"}) as journal:  # killed without a word
        journal.begin("dora+frozen", len(journal.of("dora+frozen")))
    with path.open("a", encoding="utf-8") as file:  # the power goes off while a line is written
        file.write('{"trial": {"search": "lora+fro')
    resumed = run(path, {"lora+frozen": Objective(), "dora+frozen": Objective()}, budget)
    assert told(resumed) == told(whole)
    assert {trial.state for trial in whole} >= {"complete", "pruned"}


def test_more_trials_go_on_from_fewer(tmp_path: Path) -> None:
    few = run(tmp_path / "a", {"lora+frozen": Objective()}, Budget(trials=5))
    more = run(tmp_path / "a", {"lora+frozen": Objective()}, Budget(trials=12))
    assert told(more[:5]) == told(few)
    assert told(more) == told(run(tmp_path / "b", {"lora+frozen": Objective()}, Budget(trials=12)))


def test_the_default_is_first_and_never_given_up_and_the_search_finds_better(tmp_path: Path) -> None:
    trials = run(tmp_path / "a", {"lora+frozen": Objective()}, Budget(trials=24))
    assert trials[0].point == space_of(cell()).defaults
    assert [trial.state for trial in trials[:UNPRUNED]] == ["complete"] * UNPRUNED
    choice = choose(trials, GROUPS)
    assert choice is not None
    assert choice.chosen is choice.best
    assert choice.best.accuracy > trials[0].accuracy + 0.1  # type: ignore[operator]
    late = [trial for trial in trials if trial.state == "pruned"]
    assert late
    assert all(trial.accuracy is None for trial in late)


def test_every_search_gets_as_many_trials(tmp_path: Path) -> None:
    pairs = {name: Objective() for name in ("frozen+frozen", "lora+frozen", "frozen+coop")}
    pairs["frozen+frozen"] = lambda point, **_: "1" * CLIPS  # type: ignore[assignment]
    trials = run(tmp_path / "a", pairs, Budget(trials=3))
    assert Counter(trial.search for trial in trials) == dict.fromkeys(pairs, 3)


def test_a_time_is_shared_out_in_seconds_and_kept_within(tmp_path: Path) -> None:
    clock, view = Clock(), Silent()
    pairs = {"lora+frozen": Objective(clock=clock, seconds=2.0), "dora+frozen": Objective(clock=clock, seconds=8.0)}
    budget = {"budget": Budget(seconds=60), "reserve": lambda: 10.0, "clock": clock}
    trials = run(tmp_path / "a", pairs, view=view, **budget)  # type: ignore[arg-type]
    spent = Counter()
    for trial in trials:
        spent[trial.search] += trial.seconds
    assert clock.now <= 50 + 1e-9
    assert abs(spent["lora+frozen"] - spent["dora+frozen"]) <= 8
    again = run(tmp_path / "a", pairs, **budget)  # type: ignore[arg-type]
    assert told(again) == told(trials), "a budget that is spent is not spent again"


def test_a_trial_that_cannot_end_in_time_is_stopped_and_made_again_with_more(tmp_path: Path) -> None:
    clock, view = Clock(), Silent()
    slow = {"lora+frozen": Objective(clock=clock, seconds=100.0)}
    assert run(tmp_path / "a", slow, Budget(seconds=30), view=view, clock=clock) == []
    assert view.states == ["stopped"]
    [trial] = run(tmp_path / "a", slow, Budget(seconds=200), clock=clock)
    assert (trial.number, trial.state) == (0, "complete")


def test_failures_are_kept_and_end_no_search(tmp_path: Path) -> None:
    nan = Objective()
    faults = {1: RuntimeError("CUDA out of memory. Tried to allocate"), 2: MmfuseError("the loss became NaN")}
    objectives = {"lora+frozen": Objective(faults=faults), "dora+frozen": nan}
    nan.faults[3] = ZeroDivisionError("a fault of ours")
    trials = run(tmp_path / "a", objectives, Budget(trials=8))
    failed = {(trial.search, trial.number): trial.error for trial in trials if trial.state == "failed"}
    assert failed == {
        ("lora+frozen", 1): "RuntimeError: CUDA out of memory. Tried to allocate",
        ("lora+frozen", 2): "MmfuseError: the loss became NaN",
        ("dora+frozen", 3): "ZeroDivisionError: a fault of ours",
    }
    assert len(trials) == 16


def test_an_accuracy_that_is_no_number_is_a_failed_trial(tmp_path: Path) -> None:
    def gives_nan(point: Any, *, goes_on: Any, in_time: Any) -> str:
        goes_on(1, math.nan)
        return "1"

    trials = run(tmp_path / "a", {"lora+frozen": gives_nan}, Budget(trials=5))
    assert [trial.state for trial in trials] == ["failed"] * 3, "given up: nothing else came before"
    assert "nan" in str(trials[0].error)


def test_a_device_that_is_lost_ends_the_process_and_not_the_search(tmp_path: Path) -> None:
    lost = Objective(faults={1: RuntimeError("CUDA error: device-side assert triggered")})
    with pytest.raises(MmfuseError, match="the same command goes on"):
        run(tmp_path / "a", {"lora+frozen": lost}, Budget(trials=3))
    states = [trial.state for trial in run(tmp_path / "a", {"lora+frozen": Objective()}, Budget(trials=3))]
    assert states == ["complete", "failed", "complete"]


def test_a_trial_that_ends_its_process_is_not_begun_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for _ in range(MOST_BEGINNINGS):
        with Journal(path, {"of": "a test"}) as journal:
            assert journal.begin("lora+frozen", 0)
    first, *others = run(path, {"lora+frozen": Objective()}, Budget(trials=3))
    assert first.state == "failed"
    assert [trial.state for trial in others] == ["complete"] * 2


def test_the_journal_refuses_another_request_a_second_process_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "a"
    run(path, {"lora+frozen": Objective()}, Budget(trials=1))
    with pytest.raises(MmfuseError, match="a search with other of; name another"):
        Journal(path, {"of": "another test"})
    with Journal(path, {"of": "a test"}), pytest.raises(MmfuseError, match="another process is searching"):
        Journal(path, {"of": "a test"})
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, "{}", *lines]) + "\n", encoding="utf-8")
    with pytest.raises(MmfuseError, match="was damaged"):
        Journal(path, {"of": "a test"})
    assert json.loads(header)["format"] == 1


def test_without_optuna_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "find_spec", lambda _: None)
    with pytest.raises(MmfuseError, match=r"pip install 'mmfuse\[tune\]'"):
        need_optuna()


# --- the choice --------------------------------------------------------------------------------------------------


def trial(number: int, hits: str) -> Trial:
    return Trial("a", number, {}, "complete", hits)


def test_a_gain_within_its_error_leaves_the_default() -> None:
    default, lucky, better = ("10" * 30), "1" + "10" * 29 + "0", "1" * 50 + "0" * 10
    assert choose([trial(0, default), trial(1, lucky)], GROUPS).keeps_default  # type: ignore[union-attr]
    found = choose([trial(0, default), trial(1, lucky), trial(2, better)], GROUPS)
    assert found is not None
    assert (found.chosen.number, found.keeps_default) == (2, False)


def test_the_error_of_a_difference_is_over_sources() -> None:
    """Clips of one source that always agree count as one: the error is that of so many sources."""
    by_source = difference("1100" * 10, "0000" * 10, [str(number // 2) for number in range(40)])
    by_clip = difference("10" * 10, "00" * 10, [str(number) for number in range(20)])
    assert by_source.error == pytest.approx(by_clip.error)
    assert by_source.mean == by_clip.mean == 0.5


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("3h", 10800), ("1h30m", 5400), ("45s", 45), ("1.5h", 5400)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_budget(text, None).seconds == seconds


@pytest.mark.parametrize(
    ("text", "trials"),
    [("3", None), ("h", None), ("0m", None), ("2y", None), ("-3h", None), (None, 0), (None, None), ("3h", 4)],
)
def test_budgets_that_mean_nothing_are_refused(text: str | None, trials: int | None) -> None:
    with pytest.raises(MmfuseError):
        parse_budget(text, trials)
