"""`mmfuse data`: check, split, get and cache data sets, and certify their draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmfuse.cli import completion
from mmfuse.cli.common import DONE, FAILED, AsJson, Damaged, Protocol, WholeHelp

app = typer.Typer(
    cls=WholeHelp,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Look after data sets: are they whole, which clips does a draw hold, where do they come from.",
)

Named = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A data set: ucf101, hmdb51, diving48, tiny, or a folder of your own with train.csv and test.csv, or with "
        "train/ and test/.",
        autocompletion=completion.datasets,
    ),
]
Root = Annotated[Path | None, typer.Option(help="Folder with the videos.")]
Lists = Annotated[Path | None, typer.Option(help="Folder with the official lists; default below --root.")]
Split = Annotated[int, typer.Option(help="Which official split, counted from 1.")]
Workers = Annotated[int | None, typer.Option(min=1, help="How many processes work; by default one a core.")]


@app.command()
def check(
    dataset: Named,
    root: Root = None,
    annotations: Lists = None,
    split: Split = 1,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every frame. A check that was stopped is taken up again.")
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
    dataset: Named,
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
    dataset: Named,
    root: Root = None,
    unpack: Annotated[
        list[Path] | None,
        typer.Option(metavar="ARCHIVE", help="Unpack a downloaded archive into --root. May be repeated."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Tell of a published protocol's lists instead: vifi, ju. --annotations DIR checks a copy."),
    ] = None,
    annotations: Lists = None,
) -> None:
    """Tell where a data set is published and how its folder looks; unpack what was downloaded."""
    from mmfuse.cli import datasets

    if protocol is not None:
        raise typer.Exit(DONE if datasets.get_protocol(dataset, protocol, annotations=annotations) else FAILED)
    datasets.get(dataset, root=root, unpack=unpack or [])


@app.command()
def cache(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATASET]",
            help="A data set as in check, unless --grid is given.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(help="A grid's name or file: everything that its cells look at.", autocompletion=completion.grids),
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell how much of the disk is needed, and stop.")] = False,
    json: AsJson = False,
) -> None:
    """Decode clips once into a store that all cells, workers and machines read."""
    from mmfuse.cli import cache

    wishes = cache.Wishes(
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
    whole = cache.cache(wishes, store=store, workers=workers, dry_run=dry_run, json=json)
    raise typer.Exit(0 if whole else 1)


@app.command()
def certify(
    dataset: Named,
    annotations: Lists = None,
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the fingerprints instead of comparing them.")
    ] = None,
) -> None:
    """Compute the fingerprint of every certified draw anew and compare it with the one on record."""
    from mmfuse.cli import datasets

    raise typer.Exit(0 if datasets.certify(dataset, annotations=annotations, write=write) else 1)
