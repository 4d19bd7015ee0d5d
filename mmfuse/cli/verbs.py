"""The verbs that `mmfuse` and `mmfuse-bench` share, each defined once: run a grid, and read what it left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mmfuse.cli import completion, options, search_verbs
from mmfuse.cli.options import AsJson, Results, ResultsArgument
from mmfuse.errors import MmfuseError
from mmfuse.model.optimizations import Optimizations
from mmfuse.report.tables.names import NAMES, STYLES


def run(
    name: options.GridArgument = None,
    grid: options.GridName = None,
    results: options.ResultsOfRun = None,
    data_root: options.DataRoot = None,
    annotations: options.Annotations = None,
    only: options.Only = None,
    shard: options.Shard = None,
    workers: options.Workers = None,
    engine: options.EngineName = "local",
    slurm: options.Slurm = None,
    dry_run: options.DryRun = False,
    retry_failed: options.RetryFailed = False,
    rerun: options.Rerun = None,
    fail_fast: options.FailFast = False,
    time_limit: options.TimeLimit = None,
    store: options.Store = "auto",
    speed: options.Switches = None,
    logger: options.Loggers = None,
    calibrate: options.Calibrate = False,
    json: AsJson = False,
) -> None:
    """Run the cells of a grid that have no result yet, and print the tables."""
    grid = _one_grid(name, grid)
    from mmfuse.bench.session import Request, Session
    from mmfuse.cli import run as running

    request = Request(
        grid=grid,
        results=results,
        data_root=data_root,
        annotations=annotations,
        only=only or [],
        shard=shard,
        workers=workers,
        engine=engine,
        slurm=slurm or [],
        retry_failed=retry_failed,
        rerun=rerun,
        fail_fast=fail_fast,
        time_limit=time_limit,
        store=store,
        optimizations=Optimizations.parse(speed or []),
        loggers=logger or [],
    )
    session, output = Session(request), running.Output(json=json)
    if calibrate:
        running.calibrate(session)
    raise typer.Exit(running.show_plan(session, output) if dry_run else running.run(session, output))


def _one_grid(name: str | None, option: str | None) -> str:
    """The grid that is to run, which is named once.

    Raises:
        MmfuseError: none is named, or two are.
    """
    if name is not None and option is not None and name != option:
        raise MmfuseError(f"two grids are named, {name!r} and --grid {option}; leave out one of them")
    grid = name if name is not None else option
    if grid is None:
        from mmfuse.bench.grid import grid_names

        raise MmfuseError(f"name a grid by --grid NAME|FILE (known: {', '.join(grid_names())}), or see --help")
    return grid


def _chosen(argument: Path | None, option: Path | None) -> Path:
    from mmfuse.cli.chosen import chosen_results

    return chosen_results(argument, option)


def status(argument: ResultsArgument = None, results: Results = None, json: AsJson = False) -> None:
    """Show how far a results folder is, also while another terminal runs it."""
    from mmfuse.cli.status import show_status

    show_status(_chosen(argument, results), json=json)


def tables(
    argument: ResultsArgument = None,
    results: Results = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"Which table to print: {', '.join(NAMES)}. May be repeated; by default overall.",
            autocompletion=completion.one_of(*NAMES),
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Print all tables.")] = False,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="top1|top5|mean_class",
            help="Which accuracy is shown; by default top1.",
            autocompletion=completion.one_of("top1", "top5", "mean_class"),
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Show only what fits, such as pair=dora+adapter or shots=2,4. Marks and ranks are those of all "
            "pairs. May be repeated.",
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Sort rows by a column, the better end first; COLUMN:up or COLUMN:down says which end.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="PAIR",
            help="The pair that gains are measured against; by default the one of two frozen towers.",
            autocompletion=completion.pairs,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file to write: .md, .tex, .csv, .json or .html.")
    ] = None,
    style: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"How tables are written: {', '.join(STYLES)}; by default for a terminal, or as --out is called.",
            autocompletion=completion.one_of(*STYLES),
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Print the tables of a results folder, from its records alone: one over all data sets, or those asked for."""
    from mmfuse.cli.tables import Destination, show_tables
    from mmfuse.report.tables.orders import Orders

    orders = Orders(names=table or [], every=every, metric=metric, only=only or [], sort=sort, baseline=baseline)
    show_tables(_chosen(argument, results), orders, Destination(style=style, out=out, json=json))


def report(
    argument: ResultsArgument = None,
    results: Results = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The HTML file to write.")] = Path("report.html"),
    data_root: options.DataRoot = None,
    annotations: options.Annotations = None,
    frames: Annotated[
        bool, typer.Option("--frames/--no-frames", help="Show frames of the hardest clips, where the videos are.")
    ] = True,
) -> None:
    """Write a report that opens offline: one HTML file with tables, plots, classes, hard clips and provenance."""
    from mmfuse.cli.report import write_report

    write_report(_chosen(argument, results), out=out, data_root=data_root, annotations=annotations, frames=frames)


def figures(
    argument: ResultsArgument = None,
    results: Results = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to.")] = Path("figures"),
    pair: Annotated[
        str | None,
        typer.Option(
            metavar="PAIR",
            help="The pair whose classes are shown; by default the one that is highest.",
            autocompletion=completion.pairs,
        ),
    ] = None,
) -> None:
    """Write the report's plots for a paper, as PDF and PNG."""
    from mmfuse.cli.report import write_figures

    write_figures(_chosen(argument, results), out=out, pair=pair)


def compare(
    ours: Annotated[
        str,
        typer.Argument(
            metavar="PAIR", help="A pair of the results, such as dora+adapter.", autocompletion=completion.pairs
        ),
    ],
    theirs: Annotated[
        str, typer.Argument(metavar="OTHER", help="The pair to compare it with.", autocompletion=completion.pairs)
    ],
    argument: ResultsArgument = None,
    results: Results = None,
    style: options.Style = "rich",
) -> None:
    """Compare two pairs: paired over draws, and separately over test clips."""
    from mmfuse.cli.status import show_comparison

    show_comparison(_chosen(argument, results), ours=ours, theirs=theirs, style=style)


def list_known(
    what: Annotated[
        str,
        typer.Argument(
            metavar="grids|methods|datasets|encoders",
            help="What to list.",
            autocompletion=completion.one_of("grids", "methods", "datasets", "encoders"),
        ),
    ],
    json: AsJson = False,
) -> None:
    """List what is known by name."""
    from mmfuse.cli.listing import show_list

    show_list(what, json=json)


VERBS: dict[str, Callable[..., None]] = {
    "run": run,
    "status": status,
    "tables": tables,
    "report": report,
    "figures": figures,
    "compare": compare,
    "list": list_known,
    "tune": search_verbs.tune,
}
"""What both commands take, by name."""


def add_verbs(app: typer.Typer) -> None:
    """Let a command take the verbs."""
    for name, verb in VERBS.items():
        app.command(name)(verb)
