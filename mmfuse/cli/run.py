"""`mmfuse-bench --grid …`: plan, run, and print the table."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from mmfuse.bench.added_draws import first_cells
from mmfuse.bench.arithmetic import gpu_hours
from mmfuse.bench.estimate import Expected
from mmfuse.bench.runner import View
from mmfuse.bench.session import Plan, Session
from mmfuse.cli.common import DONE, FAILED, INTERRUPTED, amount, duration, notes, out, print_json
from mmfuse.records.decisions import decisions, open_questions
from mmfuse.records.foresight import Power, powers, sentences
from mmfuse.records.status import Entry, as_row, counts

NOT_WANTED = "Draws are added where a comparison is open; none of these is wanted so far."


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a run prints.

    Args:
        json: one JSON document instead of tables.
        style: the format of the tables.
    """

    json: bool = False
    style: str = "rich"


def run(session: Session, output: Output) -> int:
    """Run a grid, show it while it runs and print what has come of it; returns the exit code.

    Raises:
        MmfuseError: something that the run needs is missing or wrong.
    """
    session.prepare()

    def watched(plan: Plan) -> AbstractContextManager[View]:
        return _watched(session, plan, output)

    tally = session.run(watched)
    if tally.interrupted:
        notes().print("interrupted; the same command goes on where this one stopped")
    return _conclude(session, output, INTERRUPTED if tally.interrupted else FAILED if tally.failed else DONE)


def calibrate(session: Session) -> None:
    """Measure this device, so that plans can tell times."""
    from mmfuse.bench.calibrate import calibrate_apart
    from mmfuse.bench.estimate import keep_calibration

    request = session.request
    with notes().status("measuring one step of each kind of cell"):
        keep_calibration(calibrate_apart(session.cells, data_root=request.root, annotations=request.annotations))


def show_plan(session: Session, output: Output) -> int:
    """List the cells with their states and expected costs; returns the exit code."""
    entries = session.entries()
    estimator = session.estimator(entries)
    ordered = estimator.longest_first(entries)
    going = {entry.cell.name for entry in session.to_run(entries)}
    expected = {entry.cell.name: estimator.expected(entry.cell) for entry in ordered}
    if output.json:
        rows = [
            {
                **as_row(entry),
                "runs": entry.cell.name in going,
                "expected_seconds": expected[entry.cell.name].seconds,
                "expected_memory_bytes": expected[entry.cell.name].memory_bytes,
                "expected_disk_bytes": expected[entry.cell.name].disk_bytes,
                "expected_decoding_seconds": expected[entry.cell.name].decoding,
            }
            for entry in ordered
        ]
        place = {"grid": session.grid_name, "results": str(session.folder.path)}
        told = [power.to_json() for power in _powers(session)]
        whole = {"counts": counts(entries), "power": told, "in_all": _in_all(session), "shard": _shard(session)}
        print_json({**place, "cells": rows, **whole})
        return DONE
    console = out()
    _print_columns(ordered, expected)
    states = ", ".join(f"{number} {state}" for state, number in counts(entries).items() if number)
    left = _expected_in_all([expected[name] for name in going]) if going else "Nothing to run."
    if not entries:
        left = NOT_WANTED
    console.print(f"\n{len(entries)} cell{'s' * (len(entries) != 1)}: {states or 'none'}. {left}", soft_wrap=True)
    for sentence in (*_part(session), *_whole(session), *sentences(_powers(session))):
        console.print(sentence, markup=False, soft_wrap=True)
    return DONE


def _part(session: Session) -> list[str]:
    """What a shard has of the whole."""
    if (share := session.share) is None:
        return []
    part = f"Shard {share.shard}: {len(share.cells):,} of {share.of:,} cells"
    return [f"{part}, {share.cost:.1%} of the expected cost by arithmetic."]


def _shard(session: Session) -> dict[str, Any] | None:
    """The same, as `--json` prints it."""
    if (share := session.share) is None:
        return None
    shard = share.shard
    return {
        "number": shard.number,
        "of": shard.count,
        "cells": len(share.cells),
        "of_cells": share.of,
        "cost": share.cost,
    }


def _powers(session: Session) -> list[Power]:
    """What each column that was asked for can tell, as one of the whole grid's."""
    asked_for = {(cell.dataset.name, cell.split, cell.shots) for cell in session.cells}
    every = powers(session.until_decided, session.possible_entries())
    return [power for power in every if (power.dataset, power.split, power.shots) in asked_for]


def _whole(session: Session) -> list[str]:
    """What the grid will take in all, where draws are added, or where hours can be told by arithmetic only."""
    told = _in_all(session)
    fewest, most = told["cells"]
    parts = (
        [] if fewest == most else [f"Draws are added where a comparison is open: {fewest:,} to {most:,} cells in all"]
    )
    if told["seconds"] is not None and parts:
        parts.append(between(*map(duration, told["seconds"])) + " on one worker")
    elif told["gpu_hours"] is not None:
        parts.append(hours_in_words(*told["gpu_hours"]))
    return [", ".join(parts) + "."] if parts else []


def _in_all(session: Session) -> dict[str, Any]:
    """Fewest and most cells that were asked for, done ones included, with seconds and hours where they can be told."""
    every = session.possible_entries()
    asked = [entry.cell for entry in every if session.is_asked_for(entry)]
    first = first_cells(asked, session.until_decided)
    estimator = session.estimator(every)
    seconds = [estimator.expected(cell).seconds for cell in asked]
    hours = (gpu_hours(first), gpu_hours(asked))
    known = {cell.name: second or 0.0 for cell, second in zip(asked, seconds, strict=True)}
    return {
        "cells": (len(first), len(asked)),
        "seconds": None if None in seconds else (sum(known[cell.name] for cell in first), sum(known.values())),
        "gpu_hours": None if None in hours else hours,
    }


def hours_in_words(fewest: float, most: float) -> str:
    """GPU-hours by arithmetic, to two digits.

    >>> hours_in_words(113.3, 374.2)
    'at least 110 to 370 GPU-hours by arithmetic, not by a run (image towers alone, on an A100 at its full speed)'
    """
    figures = between(*(f"{float(f'{hours:.2g}'):,.10g}" for hours in (fewest, most)))
    return (
        f"at least {figures} GPU-hours by arithmetic, not by a run (image towers alone, on an A100 at its full speed)"
    )


def between(low: str, high: str) -> str:
    """A range in words, or the one figure where both are the same."""
    return low if low == high else f"{low} to {high}"


def _expected_in_all(costs: list[Expected]) -> str:
    """What a run will take, in a sentence."""
    known = [cost for cost in costs if cost.seconds is not None]
    text = f"To run: {len(costs)}"
    if len(known) < len(costs):
        return f"{text}; how long is not known yet: --dry-run --calibrate measures this device first."
    time = duration(sum(cost.seconds or 0 for cost in known))
    disk = amount(sum(cost.disk_bytes or 0 for cost in known))
    text += f", expected {time} on one worker and {disk} of results"
    decoding = sum(cost.decoding or 0 for cost in known)
    if any(cost.decoding is None for cost in known):
        return f"{text}; time to decode videos that are not here is not counted."
    if decoding:
        return f"{text}; {duration(decoding)} of it decode videos, less where decoded clips are kept."
    return f"{text}."


def _print_columns(entries: list[Entry], expected: dict[str, Expected]) -> None:
    """Aligned lines, made by hand: ten thousand of them must not take long."""
    lines: list[tuple[str, ...]] = [
        ("state", "data set", "split", "pair", "K", "draw", "seed", "time", "memory", "disk")
    ]
    for entry in entries:
        cost, place = expected[entry.cell.name], map(str, entry.cell.axes)
        lines.append((entry.state, *place, duration(cost.seconds), amount(cost.memory_bytes), amount(cost.disk_bytes)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _watched(session: Session, plan: Plan, output: Output) -> AbstractContextManager[View]:
    """Say what is about to run, and make what shows it."""
    from mmfuse.cli.live import LiveView, PlainView

    console = notes()
    done = counts(plan.entries)["done"]
    console.print(
        f"{session.grid_name}: {len(plan.entries)} cells, {done} done, {len(plan.tasks)} to run with {plan.workers} "
        f"worker{'s' * (plan.workers > 1)}, results in {session.folder.path}",
        markup=False,
        soft_wrap=True,
    )
    if plan.message:
        console.print(plan.message, markup=False, soft_wrap=True)
    for sentence in sentences(power for power in _powers(session) if not power.concludes):
        console.print(sentence, markup=False, soft_wrap=True)
    kind = LiveView if console.is_terminal and not output.json else PlainView
    return kind(console=console, tasks=plan.tasks, entries=plan.entries, estimator=plan.estimator, workers=plan.workers)


def _conclude(session: Session, output: Output, code: int) -> int:
    """Print what has come of it. Cells that failed earlier and were not tried again still count."""
    entries = session.recorded()
    mine = [entry for entry in entries if session.is_asked_for(entry)]
    if code == DONE and any(entry.state == "failed" for entry in mine):
        code = FAILED
    if output.json:
        print_json(
            {
                "grid": session.grid_name,
                "results": str(session.folder.path),
                "cells": [as_row(entry) for entry in mine],
                "counts": counts(mine),
                "decisions": [decision.to_json() for decision in decisions(session.folder.manifests(), entries)],
            }
        )
        return code
    if code != INTERRUPTED:
        from mmfuse.report.tables.build import print_tables

        print_tables(entries, session.folder, style=output.style, console=out())
        for sentence in open_questions(decisions(session.folder.manifests(), entries)):
            notes().print(sentence, markup=False, soft_wrap=True)
        _hint(mine)
        if any(entry.state == "done" for entry in mine):
            _tell_what_next(session)
    return code


def _hint(entries: list[Entry]) -> None:
    """Say what to do about cells that have no number."""
    found = counts(entries)
    if not entries:
        notes().print(NOT_WANTED, markup=False, soft_wrap=True)
    hints = {
        "failed": "--retry-failed runs them again",
        "stale": "their inputs or settings have changed; --rerun stale runs them again",
        "running": "another runner is at them",
        "missing": "the same command runs them",
    }
    for state, hint in hints.items():
        if found[state]:
            notes().print(f"{found[state]} {state}: {hint}", markup=False, soft_wrap=True)


def _tell_what_next(session: Session) -> None:
    """Say which commands show the results otherwise, and what a grid can do where comparisons stay open."""
    place = ["--results", str(session.folder.path)]
    words = (
        ["tables", *place, "--all"],
        ["report", *place, "--out", "report.html"],
        ["figures", *place, "--out", "figures"],
    )
    for word in words:
        notes().print(f"next: {shlex.join(['mmfuse-bench', *word])}", markup=False, soft_wrap=True)
    if lacking := session.undiagnosed:
        told = f"next: {lacking} finished cells lack the diagnosis; --rerun all adds it, and changes no number"
        notes().print(told, markup=False, soft_wrap=True)
    if session.until_decided is None and any(not power.concludes for power in _powers(session)):
        told = "draws: {at_least: 3, at_most: 10, until: decided}"
        notes().print(f"next: {told} in the grid adds draws where a comparison is open", markup=False, soft_wrap=True)
