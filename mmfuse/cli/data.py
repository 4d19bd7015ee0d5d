"""`mmfuse data`: check, split, get and cache data sets, and certify their draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmfuse.cli import completion
from mmfuse.cli.common import DONE, FAILED, AsJson, Damaged, Protocol, WholeHelp

app = typer.Typer(
    cls=WholeHelp,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Check data sets, print and certify their draws, and cache their clips.",
)

KNOWN = ", ".join(completion.datasets(""))


def _argument(help_text: str) -> Any:
    return typer.Argument(metavar="DATASET", help=help_text, autocompletion=completion.datasets)


KnownName = Annotated[str, _argument(f"A data set: {KNOWN}.")]
NameOrFolder = Annotated[
    str,
    _argument(f"A data set: {KNOWN}, or a folder of your own with train.csv and test.csv, or with train/ and test/."),
]
Root = Annotated[Path | None, typer.Option(help="Folder with the videos.")]
Lists = Annotated[Path | None, typer.Option(help="Folder with the official lists; default below --root.")]
Split = Annotated[int, typer.Option(help="Which official split, counted from 1.")]
Workers = Annotated[int | None, typer.Option(min=1, help="How many processes work; by default one a core.")]


@app.command()
def check(
    dataset: NameOrFolder,
    root: Root = None,
    annotations: Lists = None,
    split: Split = 1,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every frame. A check that was interrupted is resumed.")
    ] = False,
    workers: Workers = None,
    json: AsJson = False,
) -> None:
    """Compare the folder of a data set with its official lists and look into every file."""
    from mmfuse.cli import datasets

    good = datasets.check(
        dataset, root=root, annotations=annotations, split=split, decode=decode, workers=workers, json=json
    )
    raise typer.Exit(0 if good else 1)


@app.command()
def split(
    dataset: NameOrFolder,
    shots: Annotated[str, typer.Option(help="Training clips a class, or all.")],
    draw: Annotated[int, typer.Option(help="Which draw, counted from 0.")] = 0,
    protocol: Protocol = None,
    split: Split = 1,
    root: Root = None,
    annotations: Lists = None,
) -> None:
    """Print the training clips of a draw as CSV: clip,label,class,group."""
    from mmfuse.cli import datasets

    datasets.print_draw(
        dataset, shots=shots, draw=draw, split=split, protocol=protocol, root=root, annotations=annotations
    )


@app.command()
def get(
    dataset: KnownName,
    root: Root = None,
    unpack: Annotated[
        list[Path] | None,
        typer.Option(metavar="ARCHIVE", help="Unpack a downloaded archive into --root. May be repeated."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Describe the lists of a published protocol instead: vifi, ju. --annotations DIR checks a copy."
        ),
    ] = None,
    annotations: Lists = None,
) -> None:
    """Print where a data set is published and the layout of its folder, or unpack its archives."""
    from mmfuse.cli import datasets

    if protocol is not None:
        raise typer.Exit(DONE if datasets.get_protocol(dataset, protocol, annotations=annotations) else FAILED)
    datasets.get(dataset, root=root, unpack=unpack or [])


@app.command()
def cache(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="A data set as in check, unless --grid is given.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(help="A grid's name or file: all the clips that its cells read.", autocompletion=completion.grids),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder with the videos; with --grid, with the data sets.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="The folder of the clip store; by default in the cache folder.")
    ] = None,
    annotations: Lists = None,
    split: Split = 1,
    shots: Annotated[str, typer.Option(help="Training clips a class, or all.")] = "all",
    draws: Annotated[str, typer.Option(help="Draws to keep, such as 0,1,2.")] = "0",
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames of a clip; by default those of the data set.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of the squares in pixels; by default that of the data set.")
    ] = None,
    workers: Workers = None,
    damaged: Damaged = "error",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print how much of the disk is needed, and stop.")] = False,
    json: AsJson = False,
) -> None:
    """Decode clips once into a store that all cells, workers and machines share."""
    from mmfuse.cli import cache

    request = cache.CacheRequest(
        dataset=dataset,
        grid=grid,
        root=root,
        annotations=annotations,
        split=split,
        shots=shots,
        draws=draws,
        frames=frames,
        size=size,
        damaged=damaged,
    )
    whole = cache.cache(request, store=store, workers=workers, dry_run=dry_run, json=json)
    raise typer.Exit(0 if whole else 1)


@app.command()
def certify(
    dataset: KnownName,
    annotations: Lists = None,
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the fingerprints instead of comparing them.")
    ] = None,
) -> None:
    """Recompute the fingerprint of every certified draw and compare it with the one on record."""
    from mmfuse.cli import datasets

    raise typer.Exit(0 if datasets.certify(dataset, annotations=annotations, write=write) else 1)
