"""`mmfuse-bench`: run a grid, look at it, print its tables, report on it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mmfuse.cli import completion
from mmfuse.cli.common import Annotations, AsJson, DataRoot, WholeHelp, run_app
from mmfuse.errors import MmfuseError
from mmfuse.model.optimizations import USUAL, Speed

app = typer.Typer(
    cls=WholeHelp,
    invoke_without_command=True,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Compare ways of adapting frozen towers: run a grid of cells, print its tables, report on it.",
)

USUALLY = {state: [name for name, on in asdict(USUAL).items() if on == (state == "on")] for state in ("on", "off")}
"""The switches of `--speed` by where they stand."""
Results = Annotated[Path, typer.Option(help="The results folder of a grid.")]
Style = Annotated[
    str,
    typer.Option(
        "--format",
        help="How tables are written: rich, markdown, latex or csv.",
        autocompletion=completion.one_of("rich", "markdown", "latex", "csv"),
    ),
]


@app.callback()
def bench(
    context: typer.Context,
    grid: Annotated[
        str | None, typer.Option(help="Name of a shipped grid, or a grid file.", autocompletion=completion.grids)
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Results folder; default results/<grid>.")] = None,
    data_root: DataRoot = None,
    annotations: Annotations = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only such cells: pair=dora+adapter, shots=2,4. May be repeated."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Cells at a time; default one a device or core.")] = None,
    engine: Annotated[
        str, typer.Option(help="Where cells run: local or ray.", autocompletion=completion.one_of("local", "ray"))
    ] = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and stop; needs neither data nor weights.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    rerun: Annotated[
        str | None,
        typer.Option(
            metavar="stale|all",
            help="Run again: cells whose inputs changed, or all.",
            autocompletion=completion.one_of("stale", "all"),
        ),
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Begin no further cell after one has failed.")] = False,
    time_limit: Annotated[float | None, typer.Option(help="Stop a cell after so many seconds.")] = None,
    store: Annotated[
        str,
        typer.Option(
            metavar="auto|off|DIR",
            help="Keep decoded clips for all cells: in the cache folder where a quarter of the free disk is enough, "
            "not at all, or in DIR.",
        ),
    ] = "auto",
    speed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=on|off",
            help=f"Switch an optimisation: {', '.join(USUALLY['on'])} (on by default), {', '.join(USUALLY['off'])} "
            "(off). May be repeated.",
            autocompletion=completion.switches,
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this device first; --dry-run then tells times from it.")
    ] = False,
    json: AsJson = False,
    version: Annotated[bool, typer.Option("--version", help="Print versions and stop.")] = False,
) -> None:
    """Run a grid (without a command), or one of the commands below."""
    if version:
        from mmfuse.cli.listing import print_version

        print_version()
        raise typer.Exit
    if context.invoked_subcommand is not None:
        if grid is not None:
            raise MmfuseError(f"--grid runs a grid and takes no command; leave out {context.invoked_subcommand!r}")
        return
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
        speed=Speed.parse(speed or []),
    )
    session, output = Session(request), running.Output(json=json)
    if calibrate:
        running.calibrate(session)
    raise typer.Exit(running.show_plan(session, output) if dry_run else running.run(session, output))


@app.command()
def status(results: Results, json: AsJson = False) -> None:
    """Show how far a results folder is, also while another terminal runs it."""
    from mmfuse.cli.status import show_status

    show_status(results, json=json)


@app.command()
def tables(
    results: Results,
    style: Style = "rich",
) -> None:
    """Print the tables of a results folder, from its records alone."""
    from mmfuse.cli.status import show_tables

    show_tables(results, style=style)


@app.command()
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


@app.command()
def figures(
    results: Results,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("figures"),
    pair: Annotated[str | None, typer.Option(help="Whose classes are shown; default the pair that is highest.")] = None,
) -> None:
    """Write the report's plots for a paper, as PDF and PNG."""
    from mmfuse.cli.report import write_figures

    write_figures(results, out=out, pair=pair)


@app.command()
def compare(
    ours: Annotated[
        str,
        typer.Argument(
            metavar="PAIR", help="A pair of the results, such as dora+adapter.", autocompletion=completion.pairs
        ),
    ],
    theirs: Annotated[
        str, typer.Argument(metavar="PAIR", help="The pair to set it against.", autocompletion=completion.pairs)
    ],
    results: Results,
    style: Style = "rich",
) -> None:
    """Set two pairs against each other: paired over draws, and apart from that over test clips."""
    from mmfuse.cli.status import show_comparison

    show_comparison(results, ours=ours, theirs=theirs, style=style)


@app.command("list")
def list_known(
    what: Annotated[
        str,
        typer.Argument(
            metavar="grids|methods|datasets|encoders",
            autocompletion=completion.one_of("grids", "methods", "datasets", "encoders"),
        ),
    ],
    json: AsJson = False,
) -> None:
    """List what is known by name."""
    from mmfuse.cli.listing import show_list

    show_list(what, json=json)


def main() -> NoReturn:
    """Entry point of `mmfuse-bench`."""
    run_app(app, "mmfuse-bench")


if __name__ == "__main__":
    main()
