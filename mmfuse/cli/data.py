"""`mmfuse data`: check, divide, split, show, get and cache data sets, and certify their draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmfuse.cli import completion, options
from mmfuse.cli.common import DONE, FAILED, WholeHelp
from mmfuse.cli.options import AsJson

app = typer.Typer(
    cls=WholeHelp,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Check and divide data sets, print and certify their draws, and cache their clips.",
)

KNOWN = ", ".join(completion.datasets(""))


def _argument(help_text: str) -> Any:
    return typer.Argument(metavar="DATASET", help=help_text, autocompletion=completion.datasets)


KnownName = Annotated[str, _argument(f"A data set: {KNOWN}.")]
NameOrFolder = Annotated[
    str,
    _argument(f"A data set: {KNOWN}, or a folder of your own with train.csv and test.csv, or with train/ and test/."),
]


@app.command()
def check(
    dataset: NameOrFolder,
    root: options.Root = None,
    annotations: options.ListsBelowRoot = None,
    split: options.Split = 1,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every frame. A check that was interrupted is resumed.")
    ] = False,
    leaks: Annotated[
        bool,
        typer.Option("--leaks", help="Look for training and test clips that show the same frames, which decodes all."),
    ] = False,
    workers: options.Processes = None,
    json: AsJson = False,
) -> None:
    """Compare the folder of a data set with its official lists and look into every file."""
    from mmfuse.cli import datasets

    good = datasets.check(
        dataset,
        root=root,
        annotations=annotations,
        split=split,
        decode=decode,
        workers=workers,
        json=json,
        leaks=leaks,
    )
    raise typer.Exit(0 if good else 1)


@app.command()
def divide(
    clips: Annotated[
        Path,
        typer.Argument(
            metavar="CLIPS",
            help="A folder with a folder for each class, or a CSV file with the columns path,label[,group].",
        ),
    ],
    test: Annotated[
        float, typer.Option(metavar="SHARE", help="The share of each class's clips that is for the test.")
    ] = 0.2,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="A regular expression with parentheses around what names the source in a clip's path, such as "
            "'(person\\d+)_'; none makes each clip its own source. By default usual names are recognised.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the lists; by default that of the clips.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Another number gives another division.", min=0)] = 0,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames/--no-frames", help="Look for clips that show the same frames, which decodes all of them."
        ),
    ] = True,
    damaged: options.Damaged = "error",
    workers: options.Processes = None,
    force: Annotated[bool, typer.Option("--force", help="Write over lists that are there.")] = False,
    json: AsJson = False,
) -> None:
    """Divide clips of your own into training and test, so that all clips of a source are on one side."""
    from mmfuse.cli import divide

    request = divide.DivideRequest(
        clips=clips,
        test=test,
        groups=groups,
        out=out,
        seed=seed,
        frames=frames,
        damaged=damaged,
        workers=workers,
        force=force,
        json=json,
    )
    divide.divide_clips(request)


@app.command()
def split(
    dataset: NameOrFolder,
    shots: options.Shots,
    draw: options.Draw = 0,
    protocol: options.Protocol = None,
    split: options.Split = 1,
    root: options.Root = None,
    annotations: options.ListsBelowRoot = None,
) -> None:
    """Print the training clips of a draw as CSV: clip,label,class,group."""
    from mmfuse.cli import datasets

    datasets.print_draw(
        dataset, shots=shots, draw=draw, split=split, protocol=protocol, root=root, annotations=annotations
    )


@app.command()
def show(
    dataset: NameOrFolder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The picture to write, in PNG.")] = Path("sheet.png"),
    shots: Annotated[str, typer.Option(metavar="K|all", help="Training clips a class, or all.")] = "1",
    draw: Annotated[int, typer.Option(metavar="N", help="Which draw, counted from 0.", min=0)] = 0,
    test: Annotated[bool, typer.Option("--test", help="Test clips, at the places that a test looks at.")] = False,
    clip: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Show this clip of the draw. May be repeated.")
    ] = None,
    clips: Annotated[int, typer.Option(metavar="N", min=1, help="How many clips, of all classes in turn.")] = 12,
    views: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many epochs of a training are shown of each clip.")
    ] = 1,
    test_views: Annotated[str, typer.Option(metavar="CLIPSxCROPS", help="Views of a test video, such as 4x3.")] = "1x1",
    frames: options.Frames = None,
    size: options.Size = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Of frames, crops and mirrors, where views are not counted.")
    ] = 0,
    split: options.Split = 1,
    root: options.Root = None,
    annotations: options.ListsBelowRoot = None,
    damaged: options.Damaged = "error",
) -> None:
    """Draw a sheet of the frames that a model reads of clips: sampled, cropped and mirrored as in training or test."""
    from mmfuse.cli import show

    request = show.ShowRequest(
        dataset=dataset,
        out=out,
        root=root,
        annotations=annotations,
        split=split,
        shots=shots,
        draw=draw,
        test=test,
        clip=tuple(clip or ()),
        clips=clips,
        views=views,
        test_views=test_views,
        frames=frames,
        size=size,
        seed=seed,
        damaged=damaged,
    )
    show.show(request)


@app.command()
def get(
    dataset: KnownName,
    root: options.Root = None,
    unpack: Annotated[
        list[Path] | None,
        typer.Option(metavar="ARCHIVE", help="Unpack a downloaded archive into --root. May be repeated."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="vifi|ju",
            help="Describe the lists of a published protocol instead; with --annotations DIR, check a copy of them.",
        ),
    ] = None,
    annotations: options.ListsBelowRoot = None,
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
        typer.Option(
            metavar="NAME|FILE",
            help="A grid's name or file: all the clips that its cells read.",
            autocompletion=completion.grids,
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with the videos; with --grid, with the data sets.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of the clip store; by default in the cache folder.")
    ] = None,
    annotations: options.ListsBelowRoot = None,
    split: options.Split = 1,
    shots: options.Shots = "all",
    draws: Annotated[str, typer.Option(metavar="N,N…", help="Draws to keep, such as 0,1,2.")] = "0",
    frames: options.Frames = None,
    size: options.Size = None,
    workers: options.Processes = None,
    damaged: options.Damaged = "error",
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
    annotations: options.ListsBelowRoot = None,
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the fingerprints instead of comparing them.")
    ] = None,
) -> None:
    """Recompute the fingerprint of every certified draw and compare it with the one on record."""
    from mmfuse.cli import datasets

    raise typer.Exit(0 if datasets.certify(dataset, annotations=annotations, write=write) else 1)
