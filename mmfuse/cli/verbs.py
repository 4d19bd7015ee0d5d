"""The verbs that `mmfuse` and `mmfuse-bench` share, each defined once: run a grid, and read what it left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mmfuse.cli import completion
from mmfuse.cli.common import Annotations, AsJson, DataRoot
from mmfuse.errors import MmfuseError
from mmfuse.model.optimizations import DEFAULT_OPTIMIZATIONS, Optimizations
from mmfuse.report.tables.names import NAMES, STYLES

USUALLY = {
    state: [name for name, on in asdict(DEFAULT_OPTIMIZATIONS).items() if on == (state == "on")]
    for state in ("on", "off")
}
"""The switches of `--speed` by where they stand."""

Results = Annotated[Path, typer.Option(help="The results folder of a grid.")]
Style = Annotated[
    str,
    typer.Option(
        "--format",
        help=f"How tables are written: {', '.join(STYLES)}.",
        autocompletion=completion.one_of(*STYLES),
    ),
]

# The options of a run.
GridName = Annotated[
    str | None,
    typer.Option(
        help="The name of a grid that ships with the package, or a grid file.", autocompletion=completion.grids
    ),
]
ResultsOfRun = Annotated[Path | None, typer.Option(help="The results folder; by default results/<grid>.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Run only the cells that fit, such as pair=dora+adapter or shots=2,4. May be repeated.",
    ),
]
Workers = Annotated[int | None, typer.Option(help="How many cells run at a time; by default one a device or core.")]
EngineName = Annotated[
    str, typer.Option(help="Where cells run: local or ray.", autocompletion=completion.one_of("local", "ray"))
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="List the cells and stop. This needs neither data nor weights.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")]
Rerun = Annotated[
    str | None,
    typer.Option(
        metavar="stale|all",
        help="Run cells again: those whose inputs have changed, or all.",
        autocompletion=completion.one_of("stale", "all"),
    ),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Begin no further cell after one has failed.")]
TimeLimit = Annotated[float | None, typer.Option(help="Stop a cell after this many seconds.")]
Store = Annotated[
    str,
    typer.Option(
        metavar="auto|off|DIR",
        help="Keep decoded clips for all cells: in the cache folder where a quarter of the free disk is enough, "
        "not at all, or in DIR.",
    ),
]
Switches = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=on|off",
        help=f"Switch an optimisation: {', '.join(USUALLY['on'])} (on by default), {', '.join(USUALLY['off'])} "
        "(off by default). May be repeated.",
        autocompletion=completion.switches,
    ),
]
Calibrate = Annotated[
    bool, typer.Option("--calibrate", help="Measure this device first; --dry-run then tells times from it.")
]


def run(
    grid: GridName = None,
    results: ResultsOfRun = None,
    data_root: DataRoot = None,
    annotations: Annotations = None,
    only: Only = None,
    workers: Workers = None,
    engine: EngineName = "local",
    dry_run: DryRun = False,
    retry_failed: RetryFailed = False,
    rerun: Rerun = None,
    fail_fast: FailFast = False,
    time_limit: TimeLimit = None,
    store: Store = "auto",
    speed: Switches = None,
    calibrate: Calibrate = False,
    json: AsJson = False,
) -> None:
    """Run the cells of a grid that have no result yet, and print the tables."""
    if grid is None:
        from mmfuse.bench.grid import grid_names

        raise MmfuseError(f"name a grid by --grid NAME|FILE (known: {', '.join(grid_names())}), or see --help")
    from mmfuse.bench.session import Request, Session
    from mmfuse.cli import run as running

    request = Request(
        grid=grid,
        results=results,
        data_root=data_root,
        annotations=annotations,
        only=only or [],
        workers=workers,
        engine=engine,
        retry_failed=retry_failed,
        rerun=rerun,
        fail_fast=fail_fast,
        time_limit=time_limit,
        store=store,
        optimizations=Optimizations.parse(speed or []),
    )
    session, output = Session(request), running.Output(json=json)
    if calibrate:
        running.calibrate(session)
    raise typer.Exit(running.show_plan(session, output) if dry_run else running.run(session, output))


def status(results: Results, json: AsJson = False) -> None:
    """Show how far a results folder is, also while another terminal runs it."""
    from mmfuse.cli.status import show_status

    show_status(results, json=json)


def tables(
    results: Results,
    table: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"Which table: {', '.join(NAMES)}. May be repeated; by default overall.",
            autocompletion=completion.one_of(*NAMES),
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All tables.")] = False,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="top1|top5|mean_class",
            help="What is measured; by default top1.",
            autocompletion=completion.one_of("top1", "top5", "mean_class"),
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only what fits, such as pair=dora+adapter or shots=2,4. Repeatable. Marks and ranks are those of "
            "all pairs.",
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
    out: Annotated[Path | None, typer.Option(help="A file to write: .md, .tex, .csv, .json or .html.")] = None,
    style: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"How tables are written: {', '.join(STYLES)}.",
            autocompletion=completion.one_of(*STYLES),
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Print the tables of a results folder, from its records alone: one over all data sets, or those asked for."""
    from mmfuse.cli.tables import Destination, show_tables
    from mmfuse.report.tables.orders import Orders

    orders = Orders(names=table or [], every=every, metric=metric, only=only or [], sort=sort, baseline=baseline)
    show_tables(results, orders, Destination(style=style, out=out, json=json))


def report(
    results: Results,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    data_root: DataRoot = None,
    annotations: Annotations = None,
    frames: Annotated[
        bool, typer.Option("--frames/--no-frames", help="Show frames of the hardest clips, where the videos are.")
    ] = True,
) -> None:
    """Write a report that opens offline: one HTML file with tables, plots, classes, hard clips and provenance."""
    from mmfuse.cli.report import write_report

    write_report(results, out=out, data_root=data_root, annotations=annotations, frames=frames)


def figures(
    results: Results,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("figures"),
    pair: Annotated[str | None, typer.Option(help="Whose classes are shown; default the pair that is highest.")] = None,
) -> None:
    """Write the report's plots for a paper, as PDF and PNG."""
    from mmfuse.cli.report import write_figures

    write_figures(results, out=out, pair=pair)


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
    results: Results,
    style: Style = "rich",
) -> None:
    """Compare two pairs: paired over draws, and separately over test clips."""
    from mmfuse.cli.status import show_comparison

    show_comparison(results, ours=ours, theirs=theirs, style=style)


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
}
"""What both commands take, by name."""


def add_verbs(app: typer.Typer) -> None:
    """Let a command take the verbs."""
    for name, verb in VERBS.items():
        app.command(name)(verb)
