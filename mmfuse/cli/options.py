"""Options and arguments that several commands take, each written down once, with its help and what a shell offers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from mmfuse.cli import completion
from mmfuse.model.optimizations import DEFAULT_OPTIMIZATIONS
from mmfuse.report.tables.names import STYLES

_Command = TypeVar("_Command", bound=Callable[..., Any])

USUALLY = {
    state: [name for name, on in asdict(DEFAULT_OPTIMIZATIONS).items() if on == (state == "on")]
    for state in ("on", "off")
}
"""The switches of `--speed` by where they stand."""

# What is printed.
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Style = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help=f"How tables are written: {', '.join(STYLES)}.",
        autocompletion=completion.one_of(*STYLES),
    ),
]

# Clips.
DataRoot = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder that holds the data sets; by default $MMFUSE_DATA, else ./data."),
]
Annotations = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder with the official lists; by default below the data, else $MMFUSE_ANNOTATIONS."
    ),
]
Root = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with the videos.")]
ListsBelowRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder with the official lists; by default below --root, else $MMFUSE_ANNOTATIONS."
    ),
]
Split = Annotated[int, typer.Option(metavar="N", help="Which official split, counted from 1.")]
Shots = Annotated[
    str,
    typer.Option(
        metavar="K|all",
        help="Training clips a class, or all.",
        autocompletion=completion.one_of("2", "4", "8", "16", "all"),
    ),
]
Draw = Annotated[int, typer.Option(metavar="N", min=0, help="Which draw of training clips, counted from 0.")]
Protocol = Annotated[
    str | None,
    typer.Option(
        metavar="vifi|ju",
        help="Published few-shot lists in place of a draw: vifi (K = 2, 4, 8, 16) or ju (K = 5, draws 0 to 9). mmfuse "
        "data get NAME --protocol vifi tells where their files are published.",
    ),
]
Damaged = Annotated[
    Literal["error", "keep"],
    typer.Option(metavar="error|keep", help="Damaged videos: stop at them, or keep the frames that can be read."),
]
Frames = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Frames of a clip; by default those of the data set.")
]
Size = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Side of the squares in pixels; by default that of the data set."),
]
Processes = Annotated[
    int | None, typer.Option("--workers", metavar="N", min=1, help="How many processes work; by default one a core.")
]

# Results.
Results = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The results folder of a grid; by default the one written last below ./results."),
]
ResultsArgument = Annotated[
    Path | None,
    typer.Argument(metavar="RESULTS", help="The results folder, as --results names it.", show_default=False),
]

# A run.
GridName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="The name of a grid that ships with the package, or a grid file.",
        autocompletion=completion.grids,
    ),
]
GridArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="GRID", help="The grid, as --grid names it.", show_default=False, autocompletion=completion.grids
    ),
]
ResultsOfRun = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The results folder; by default results/<name of the grid>.")
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Run only the cells that fit, such as pair=dora+adapter or shots=2,4. May be repeated.",
    ),
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="With --engine slurm: what a job asks for, such as partition=gpu or time=4:00:00. May be repeated.",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(metavar="i/n", help="Run one of n parts of these cells, such as 1/4, balanced by expected cost."),
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", help="How many cells run at a time; by default one a device or core.")
]
EngineName = Annotated[
    str,
    typer.Option(
        metavar="local|ray|slurm",
        help="Where cells run: local, ray or slurm.",
        autocompletion=completion.one_of("local", "ray", "slurm"),
    ),
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
TimeLimit = Annotated[float | None, typer.Option(metavar="SECONDS", help="Stop a cell after this many seconds.")]
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
Loggers = Annotated[
    list[str] | None,
    typer.Option(
        "--logger",
        metavar="csv|mlflow|tensorboard|wandb",
        help="Write loss, rates, accuracies, settings and a picture of what is read. May be repeated.",
        autocompletion=completion.one_of("csv", "mlflow", "tensorboard", "wandb"),
    ),
]
Calibrate = Annotated[
    bool, typer.Option("--calibrate", help="Measure this device first; --dry-run then tells times from it.")
]


def takes_options_of(other: Callable[..., Any]) -> Callable[[_Command], _Command]:
    """Give a command, in the place of its `**options`, the options of another, so that they are written down once.

    Args:
        other: the command whose options are taken; its arguments, which are told by their place, are not.
    """

    def decorate(command: _Command) -> _Command:
        own = [one for one in _parameters(command) if one.kind is not inspect.Parameter.VAR_KEYWORD]
        theirs = [one for one in _parameters(other) if not _is_argument(one)]
        required = [one for one in own if one.default is inspect.Parameter.empty]
        all_of_them = [*required, *theirs, *(one for one in own if one not in required)]
        setattr(command, "__signature__", inspect.Signature(all_of_them))  # noqa: B010 - no attribute for a type checker
        return command

    return decorate


def _parameters(command: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(command, eval_str=True).parameters.values())


def _is_argument(parameter: inspect.Parameter) -> bool:
    metadata = getattr(parameter.annotation, "__metadata__", ())
    return any(isinstance(one, typer.models.ArgumentInfo) for one in metadata)
