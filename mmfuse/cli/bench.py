"""`mmfuse-bench`: run a grid, look at it, print its tables, report on it."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from mmfuse.cli import verbs
from mmfuse.cli.common import Annotations, AsJson, DataRoot, WholeHelp, run_app
from mmfuse.errors import MmfuseError

app = typer.Typer(
    cls=WholeHelp,
    invoke_without_command=True,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Compare ways of adapting frozen towers: run a grid of cells, print its tables, report on it.",
)
verbs.add_verbs(app)


@app.callback()
def bench(
    context: typer.Context,
    grid: verbs.GridName = None,
    results: verbs.ResultsOfRun = None,
    data_root: DataRoot = None,
    annotations: Annotations = None,
    only: verbs.Only = None,
    workers: verbs.Workers = None,
    engine: verbs.EngineName = "local",
    dry_run: verbs.DryRun = False,
    retry_failed: verbs.RetryFailed = False,
    rerun: verbs.Rerun = None,
    fail_fast: verbs.FailFast = False,
    time_limit: verbs.TimeLimit = None,
    store: verbs.Store = "auto",
    speed: verbs.Switches = None,
    calibrate: verbs.Calibrate = False,
    json: AsJson = False,
    version: Annotated[bool, typer.Option("--version", help="Print versions and stop.")] = False,
) -> None:
    """Run a grid, which needs no command, or one of the commands below."""
    if version:
        from mmfuse.cli.listing import print_version

        print_version()
        raise typer.Exit
    if context.invoked_subcommand is not None:
        _refuse_misplaced_options(context, context.invoked_subcommand)
        return
    verbs.run(
        grid=grid,
        results=results,
        data_root=data_root,
        annotations=annotations,
        only=only,
        workers=workers,
        engine=engine,
        dry_run=dry_run,
        retry_failed=retry_failed,
        rerun=rerun,
        fail_fast=fail_fast,
        time_limit=time_limit,
        store=store,
        speed=speed,
        calibrate=calibrate,
        json=json,
    )


def _refuse_misplaced_options(context: typer.Context, verb: str) -> None:
    """Refuse options of a run before a verb, which would not be heard."""
    sources = {one.opts[0]: context.get_parameter_source(one.name or "") for one in context.command.params}
    given = [option for option, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if "--grid" in given:
        raise MmfuseError(f"--grid runs a grid and takes no command; leave out {verb!r}")
    if given:
        raise MmfuseError(f"{given[0]} stands before {verb!r}, where it has no meaning; put it behind")


def main() -> NoReturn:
    """Entry point of `mmfuse-bench`."""
    run_app(app, "mmfuse-bench")


if __name__ == "__main__":
    main()
