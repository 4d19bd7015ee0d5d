"""`mmfuse best`: from a folder of clips to one model."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mmfuse.bench.job import Job
from mmfuse.bench.tuning.best import FinalTraining, Findings, candidate_pairs, findings, summary
from mmfuse.bench.tuning.budget import Budget, parse_budget
from mmfuse.bench.tuning.interval import accuracy_interval
from mmfuse.bench.tuning.sampler import need_optuna
from mmfuse.bench.tuning.search import Searches
from mmfuse.bench.tuning.space import Space, space_of
from mmfuse.bench.tuning.trials import Journal
from mmfuse.cli.best_data import FOLDER, Clips
from mmfuse.cli.common import DONE, FAILED, INTERRUPTED, complain, duration, notes, out, print_json
from mmfuse.cli.search_view import SearchLines, SearchTable, in_short
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell
from mmfuse.records.folder import PlannedCell
from mmfuse.records.predictions import decode
from mmfuse.records.protocol import PROTOCOL
from mmfuse.records.record import Record
from mmfuse.records.status import Entry
from mmfuse.utils.files import default_data_root, write_atomically
from mmfuse.utils.interrupts import undisturbed

if TYPE_CHECKING:
    from mmfuse.bench.tuning.folds import TrainingPool
    from mmfuse.data.catalogue.load import Catalogue

TRIALS, MODEL, PAGE, SUMMARY = "trials.jsonl", "model", "best.html", "best.json"
"""What stands in the folder of a search."""
SETTINGS = ("train", "clip", "fusion")


class TooLittleTime(MmfuseError):
    """The budget does not suffice for one trial."""


@dataclass(frozen=True, kw_only=True)
class BestRequest:
    """What the user asked for."""

    clips: Clips
    out: Path
    budget: str | None = None
    trials: int | None = None
    methods: str | None = None
    encoders: Mapping[str, str] = field(default_factory=dict)
    epochs: int | None = None
    set: list[str] = field(default_factory=list)
    seed: int = 0
    threads: int | None = None
    json: bool = False


def best(request: BestRequest) -> int:
    """Search, train, test, and keep one model; returns the exit code.

    Raises:
        MmfuseError: the request is wrong; nothing is left of it then.
    """
    started = time.monotonic()
    need_optuna()
    budget, pairs = parse_budget(request.budget, request.trials), candidate_pairs(request.methods)
    if (request.out / SUMMARY).exists():  # all was done before
        return _tell(json.loads((request.out / SUMMARY).read_text(encoding="utf-8")), request)
    before = {path.name for path in request.out.iterdir()} if request.out.is_dir() else None
    try:
        dataset = request.clips.dataset(request.out)
        cells = {pair: _cell(request, dataset, pair) for pair in pairs}
        work = Work(request, cells, budget, started)
    except (MmfuseError, OSError):
        _remove_what_is_new(request.out, before)
        raise
    try:
        return work.carry_out()
    except TooLittleTime:
        _remove_what_is_new(request.out, before)
        raise
    except KeyboardInterrupt:
        trials = f"{work.kept} trial{'s are' if work.kept != 1 else ' is'}"
        told = f"stopped; {trials} kept in {request.out}, and the same command goes on from there"
        complain("mmfuse", told)
        return INTERRUPTED


def _remove_what_is_new(folder: Path, before: set[str] | None) -> None:
    """Remove what a request that is refused has written, but nothing that stood there before."""
    for name in {FOLDER, TRIALS, f"{TRIALS}.lock"} - (before or set()):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if before is None:
        with suppress(OSError):
            folder.rmdir()


def _cell(request: BestRequest, dataset: Mapping[str, Any], pair: str) -> Cell:
    """The cell of a pair with the settings that nothing was searched for."""
    from mmfuse.cli.train import apply_setting, in_words

    settings: dict[str, Any] = {group: {} for group in SETTINGS}
    if request.epochs is not None:
        settings["train"]["epochs"] = request.epochs
    for text in request.set:
        apply_setting(text, settings, {})
    image, text_method = pair.split("+")
    own = {**dataset, "damaged": request.clips.damaged}
    try:
        return Cell.model_validate(
            {
                "dataset": own,
                "pair": {"name": pair, "image": image, "text": text_method},
                "shots": "all",
                "encoders": dict(request.encoders),
                **settings,
            }
        )
    except ValidationError as fault:
        raise MmfuseError(in_words(fault)) from None


class Work:
    """All that is done once the request is understood.

    Args:
        request: what was asked for.
        cells: by pair.
        budget: of search and last training.
        started: when the command began, by the monotonic clock.

    Raises:
        MmfuseError: data or towers are missing, or nothing can be held out.
    """

    def __init__(self, request: BestRequest, cells: Mapping[str, Cell], budget: Budget, started: float) -> None:
        from mmfuse.bench.preflight import check_towers, lists_of, prepare
        from mmfuse.bench.tuning.folds import folds_of

        self._request, self._budget, self._started = request, budget, started
        first = next(iter(cells.values()))
        check_towers([first])
        [planned] = prepare([Entry(PlannedCell(first), "missing")], data_root=default_data_root(), will_run=list)
        self._known = planned.inputs
        self._catalogue: Catalogue = lists_of(first, default_data_root())
        with undisturbed():
            from mmfuse.bench.tuning.prepare import pool_of
        self._pool: TrainingPool = pool_of(first, data_root=default_data_root())
        self._folds = folds_of(self._pool)
        self._spaces: dict[str, Space] = {
            pair: space_of(cell, fixed={text.partition("=")[0].strip() for text in request.set})
            for pair, cell in cells.items()
        }
        self.kept = 0
        # A journal of another request is refused before anything is written.
        with self._journal():
            pass

    def _journal(self) -> Journal:
        request = self._request
        inputs = {key: value for key, value in self._known.model_dump().items() if value is not None}
        asked = {
            **request.clips.document(),
            "methods": list(self._spaces),
            "encoders": dict(request.encoders),
            "settings": [*request.set, request.epochs],
            "seed": request.seed,
            "videos_lists_or_towers": inputs,
            "version": PROTOCOL,
        }
        return Journal(request.out / TRIALS, asked)

    def carry_out(self) -> int:
        """Search, train the best on all clips, test it once, and tell."""
        from mmfuse.cli.train import threads

        with threads(self._request.threads):
            found = self._search()
            failed = self._train(found)
        if failed is not None:
            return failed
        return _tell(self._conclude(found), self._request)

    def _train(self, found: Findings) -> int | None:
        """Train and test what was chosen, unless that was done before: the test list is read once.

        Returns:
            The exit code of a training that failed.
        """
        from mmfuse.cli.train import keep, run_job

        folder, fault = self._request.out / MODEL, self._request.out / "failure.json"
        if (folder / "record.json").exists():
            return None
        job = Job(found.chosen_cell(), known=self._known, command=self._command(), keep_checkpoint=True)
        notes().print(f"training {job.cell.pair.name} on all {len(self._pool.clips):,} clips", markup=False)
        outcome = run_job(job)
        if (error := outcome.record.error) is not None:
            write_atomically(fault, outcome.record.to_json())
            why = f"the last training failed: {error.kind}: {error.message}; the same command tries it again"
            complain("mmfuse", why)
            return FAILED
        keep(outcome, folder)
        fault.unlink(missing_ok=True)
        return None

    def _search(self) -> Findings:
        from mmfuse.bench.clip_cache import plan_cache
        from mmfuse.bench.tuning.fold_training import validation_groups
        from mmfuse.bench.tuning.prepare import search_of

        groups = validation_groups(self._folds)
        cells = [space.cell for space in self._spaces.values()]
        kept = plan_cache(cells, data_root=default_data_root(), wish="auto")
        with self._journal() as journal:
            last = FinalTraining(
                lambda: findings(self._spaces, journal, groups),
                clips=len(self._pool.clips),
                kept=sum(fold.kept for fold in self._folds),
                tested=int((self._catalogue.table["part"] == "test").sum()),
            )
            view = self._view(journal, lambda: searches.seconds_left())
            searches = Searches(
                [
                    search_of(pair, space, self._pool, title=pair, store=kept.store_for(space.cell), report=view.report)
                    for pair, space in self._spaces.items()
                ],
                journal,
                self._budget,
                seed=self._request.seed,
                view=view,
                reserve=last.seconds,
                started=self._started,
            )
            self.kept = len(journal.trials)
            self._say_what_is_searched(journal)
            try:
                with view:
                    searches.run()
            finally:
                self.kept = len(journal.trials)
            found = findings(self._spaces, journal, groups)
        self._refuse_nothing(found)
        return found

    def _say_what_is_searched(self, journal: Journal) -> None:
        held = sum(len(fold.held) for fold in self._folds)
        parts = f"{len(self._folds)} folds" if len(self._folds) > 1 else "one fold"
        known = f"; going on from {len(journal.trials)} trials" if journal.trials else ""
        told = (
            f"{len(self._spaces)} pairs, {self._budget}; judged on {held:,} clips held out of the training clips in "
            f"{parts}, by whole sources{known}"
        )
        notes().print(told, markup=False, soft_wrap=True)

    def _view(self, journal: Journal, seconds_left: Callable[[], float]) -> SearchLines | SearchTable:
        console = notes()

        def left() -> str:
            if self._budget.trials is not None:
                rest = self._budget.trials * len(self._spaces) - len(journal.trials)
                return f"{rest} trial{'s' * (rest != 1)} left"
            return f"{duration(max(0.0, seconds_left()))} left for trials"

        if console.is_terminal:
            return SearchTable(console, journal.trials, left, pairs={pair: pair for pair in self._spaces})
        return SearchLines(console, journal.trials, left)

    def _refuse_nothing(self, found: Findings) -> None:
        """Refuse to choose among nothing: say whether time was lacking or all settings failed."""
        if found.best is not None:
            return
        if self._budget.seconds is not None and not any(one.trials for one in found.candidates):
            raise TooLittleTime(
                f"a budget of {self._request.budget} is too small for one trial; give more by --budget, or make "
                "trials shorter by --epochs"
            )
        raise MmfuseError(found.why_nothing())

    def _conclude(self, found: Findings) -> dict[str, Any]:
        """Write the page, and last the summary."""
        from mmfuse.report.page.search import build_search_page
        from mmfuse.report.per_class import Evidence

        folder = self._request.out
        record = Record.from_json((folder / MODEL / "record.json").read_text(encoding="utf-8"))
        table = decode(folder / MODEL / "predictions.csv.gz")
        evidence = Evidence()
        evidence.add(record, table, row=record.cell.pair.name)
        metrics = record.metrics
        assert metrics is not None
        sources = dict(zip(self._catalogue.table["clip"], self._catalogue.table["group"], strict=True))
        right = (table["label"] == table["predicted"]).tolist()
        low, high = accuracy_interval(right, [sources[clip] for clip in table["clip"].tolist()])
        tests = self._catalogue.part("test")
        told = summary(
            found,
            budget=self._budget.document(),
            seed=self._request.seed,
            folds=len(self._folds),
            classes=len(record.class_names or ()),
            test={
                **metrics.model_dump(),
                "interval": [low, high],
                "sources": len(set(tests["group"])),
                "weights": None if record.parameters is None else record.parameters.model_dump(),
            },
            model=str(folder / MODEL),
            page=str(folder / PAGE),
            predict=shlex.join(["mmfuse", "predict", str(folder / MODEL), _a_video(tests["path"])]),
        )
        page = build_search_page(told, record=record, evidence=evidence, command=self._command())
        write_atomically(folder / PAGE, page)
        write_atomically(folder / SUMMARY, json.dumps(told, ensure_ascii=False, indent=1) + "\n")
        return told

    def _command(self) -> str:
        """The command that does this again."""
        request = self._request
        words = ["mmfuse", "best", request.clips.clips, "--out", str(request.out)]
        words += ["--budget", request.budget] if request.budget is not None else ["--trials", str(request.trials)]
        for option, value, usual in (
            ("--methods", request.methods, None),
            ("--test", None if request.clips.is_divided else request.clips.test, 0.2),
            ("--groups", request.clips.groups, None),
            ("--epochs", request.epochs, None),
            ("--seed", request.seed, 0),
        ):
            words += [] if value in (None, usual) else [option, str(value)]
        words += [word for tower, name in request.encoders.items() for word in (f"--{tower}-encoder", name)]
        return shlex.join([*words, *(word for text in request.set for word in ("--set", text))])


def _a_video(paths: Any) -> str:
    return next((str(path) for path in paths if Path(path).is_file()), "VIDEO")


def _tell(told: Mapping[str, Any], request: BestRequest) -> int:
    """Print what was found."""
    if request.json:
        print_json(told)
        return DONE
    test, checked = told["test"], told["validation"]
    low, high = (100 * bound for bound in test["interval"])
    chance = 100 / told["classes"]
    lines = [
        f"{told['pair']} with {in_short(told['settings'])}: {100 * checked['top1']:.1f}% of {checked['clips']:,} clips "
        "held out of the training clips",
        f"tested once: top-1 {100 * test['top1']:.1f}% ({low:.1f} to {high:.1f}) on {test['test_clips']:,} test clips "
        f"of {test['sources']:,} sources (chance {chance:.1f}%)",
    ]
    if told["as_good"]:
        lines.append(f"not shown to be worse: {', '.join(told['as_good'])}")
    lines += [f"what was tried: {told['page']}", f"try next: {told['predict']}"]
    for line in lines:
        out().print(line, markup=False, soft_wrap=True)
    return DONE


def encoders_of(image: str | None, text: str | None) -> dict[str, str]:
    """The towers by kind: those that are named, else the public ones."""
    return {"image": image or PUBLIC["image"], "text": text or PUBLIC["text"]}


PUBLIC = {"image": "facebook/dinov2-base", "text": "openai/clip-vit-base-patch16"}
"""The towers of the source, where none are named."""
