"""`mmfuse tune GRID`: settings for every pair of a grid, searched with the same budget."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmfuse.bench.grid import load_grid
from mmfuse.bench.tuning.budget import Budget, parse_budget
from mmfuse.bench.tuning.grid_search import GridSearch
from mmfuse.bench.tuning.sampler import need_optuna
from mmfuse.bench.tuning.search import Searches
from mmfuse.bench.tuning.trials import Journal
from mmfuse.bench.tuning.tuned import TunedFile, Winner
from mmfuse.cli.common import DONE, INTERRUPTED, complain, duration, notes, out, print_json
from mmfuse.cli.search_view import SearchLines, SearchTable, in_short
from mmfuse.records.protocol import PROTOCOL
from mmfuse.utils.files import default_data_root, user_path, write_atomically
from mmfuse.utils.interrupts import undisturbed


@dataclass(frozen=True, kw_only=True)
class TuneRequest:
    """What the user asked for."""

    grid: str
    budget: str | None = None
    trials: int | None = None
    out: Path | None = None
    only: tuple[str, ...] = ()
    by_shots: bool = False
    seed: int = 0
    data_root: Path | None = None
    annotations: Path | None = None
    threads: int | None = None
    json: bool = False


def tune(request: TuneRequest) -> int:
    """Search, and write the file of winners; returns the exit code.

    Raises:
        MmfuseError: the request is wrong; nothing was written then.
    """
    started = time.monotonic()
    need_optuna()
    budget, grid = parse_budget(request.budget, request.trials), load_grid(request.grid)
    file = request.out or Path(f"{grid.grid.name}-tuned.yaml")
    with undisturbed():
        import mmfuse.bench.run_cell  # noqa: F401 - the heavy libraries, once and for all
    from mmfuse.cli.train import threads

    search = GridSearch(
        grid,
        only=request.only,
        by_shots=request.by_shots,
        data_root=request.data_root or default_data_root(),
        annotations=None if request.annotations is None else user_path(request.annotations).absolute(),
    )
    trials = file.with_name(f"{file.stem}.trials.jsonl")
    new = not trials.exists()
    try:
        with Journal(trials, {"seed": request.seed, "version": PROTOCOL}) as journal, threads(request.threads):
            _run(search, journal, budget, request, started)
            found = search.file(journal, budget=budget, seed=request.seed, command=_command(request, file))
    except KeyboardInterrupt:
        complain("mmfuse", f"stopped; the trials are kept in {trials}, and the same command goes on from there")
        return INTERRUPTED
    finally:
        if new and trials.exists() and '"trial"' not in trials.read_text(encoding="utf-8"):
            trials.unlink()  # of a search that came to nothing
    write_atomically(file, found.text())
    return _tell(found, file, request)


def _run(search: GridSearch, journal: Journal, budget: Budget, request: TuneRequest, started: float) -> None:
    console = notes()

    def left() -> str:
        if budget.trials is not None:
            made = sum(len(journal.of(place.name)) for place in search.asked)
            return f"{budget.trials * len(search.asked) - made} trials left"
        return f"{duration(max(0.0, searches.seconds_left()))} left"

    known = [trial for place in search.asked for trial in journal.of(place.name)]
    going_on = f"; going on from {len(known)} trials" if known else ""
    held = sorted({search.held_out(place) for place in search.asked})
    clips = " to ".join(f"{number:,}" for number in dict.fromkeys((held[0], held[-1])))
    told = f"{len(search.asked)} searches, {budget}; judged on {clips} clips held out by whole sources{going_on}"
    console.print(told, markup=False, soft_wrap=True)
    view: SearchLines | SearchTable = SearchLines(console, known, left)
    if console.is_terminal:
        view = SearchTable(console, known, left, pairs={place.name: place.title for place in search.asked})
    searches = Searches(search.searches(view.report), journal, budget, seed=request.seed, view=view, started=started)
    with view:
        searches.run()


def _command(request: TuneRequest, file: Path) -> str:
    """The command that does this again."""
    words = ["mmfuse-bench", "tune", request.grid, "--out", str(file)]
    words += ["--budget", request.budget] if request.budget is not None else ["--trials", str(request.trials)]
    words += [word for text in request.only for word in ("--only", text)]
    words += ["--by-shots"] if request.by_shots else []
    return shlex.join(words + (["--seed", str(request.seed)] if request.seed else []))


def _tell(found: TunedFile, file: Path, request: TuneRequest) -> int:
    if request.json:
        print_json(found.model_dump(mode="json"))
        return DONE
    for one in found.winners:
        out().print(_line(one), markup=False, soft_wrap=True)
    out().print(f"written to {file}; a grid takes it by the key  tuned: {file}", markup=False, soft_wrap=True)
    return DONE


def _line(one: Winner) -> str:
    judged = one.validation
    where = f"{one.dataset}{f' split {one.split}' if one.split != 1 else ''} {one.pair}"
    shots = f"K={','.join(map(str, one.shots))}"
    settings: Mapping[str, Mapping[str, Any]] = {str(group): values for group, values in one.settings.items()}
    gain = "" if judged.gain is None or judged.error is None else _gain(judged.gain, judged.error, kept=one.default)
    return f"{where} {shots}: {in_short(settings)}, {100 * judged.top1:.1f}%{gain} after {one.trials} trials"


def _gain(gain: float, error: float, *, kept: bool) -> str:
    told = f"{100 * gain:+.1f} ± {100 * error:.1f} points"
    return f" (the best of the others: {told}, within one standard error)" if kept else f" ({told})"
