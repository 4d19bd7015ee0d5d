"""`mmfuse-bench`: run a grid, look at it, print its tables, report on it."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import typer

from mmfuse.cli import verbs
from mmfuse.cli.common import WholeHelp, run_app
from mmfuse.cli.options import takes_options_of
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
@takes_options_of(verbs.run)
def bench(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print versions and stop.")] = False,
    **options: Any,
) -> None:
    """Run a grid, which needs no command, or one of the commands below."""
    if version:
        from mmfuse.cli.listing import print_version

        print_version()
        raise typer.Exit
    if context.invoked_subcommand is not None:
        _refuse_misplaced_options(context, context.invoked_subcommand)
        return
    verbs.run(**options)


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
