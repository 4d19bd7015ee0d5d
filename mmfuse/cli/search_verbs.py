"""The verbs that search: their options, in the place where help and completion read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmfuse.cli import completion, options
from mmfuse.cli.options import AsJson

BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", metavar="TIME", help="How long it may take in all, such as 90m, 3h or 1h30m."),
]
TrialsOption = Annotated[
    int | None,
    typer.Option("--trials", metavar="N", help="In the place of a time: how many settings of each pair are tried."),
]
SeedOption = Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the settings that are tried.")]


def best(
    clips: Annotated[
        str,
        typer.Argument(
            metavar="CLIPS",
            help="A folder with a folder for each class, a CSV file (path,label[,group]), or a folder whose training "
            "and test clips are divided already.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the model, the page and all trials.")],
    budget: BudgetOption = None,
    trials: TrialsOption = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="What is tried, with commas between: pairs such as dora+adapter, or methods, which are put on each "
            "tower that takes them. By default one of each kind.",
        ),
    ] = None,
    test: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the test in each class, where clips are divided.")
    ] = 0.2,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="How the source is found in a clip's path, where clips are divided: a regular expression with one "
            "group in parentheses, or none.",
        ),
    ] = None,
    image_encoder: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="The image tower; by default facebook/dinov2-base.")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="The text tower; by default openai/clip-vit-base-patch16.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Passes over the training clips; half and twice as many are tried too."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting that stays as it is said, such as clip.frames=16 or train.batch_size=8. May be repeated.",
        ),
    ] = None,
    seed: SeedOption = 0,
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads; by default all.")] = None,
    damaged: options.Damaged = "error",
    json: AsJson = False,
) -> None:
    """Search methods and settings within a budget, and leave one tested model and a page of what was tried."""
    from mmfuse.cli.best import BestRequest, encoders_of
    from mmfuse.cli.best import best as carry_out
    from mmfuse.cli.best_data import Clips

    request = BestRequest(
        clips=Clips(clips=clips, test=test, groups=groups, seed=seed, damaged=damaged),
        out=out,
        budget=budget,
        trials=trials,
        methods=methods,
        encoders=encoders_of(image_encoder, text_encoder),
        epochs=epochs,
        set=set_ or [],
        seed=seed,
        threads=threads,
        json=json,
    )
    raise typer.Exit(carry_out(request))


def tune(
    grid: Annotated[
        str,
        typer.Argument(
            metavar="GRID",
            help="The name of a grid that ships with the package, or a grid file.",
            autocompletion=completion.grids,
        ),
    ],
    trials: TrialsOption = None,
    budget: BudgetOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file to write; by default <name of the grid>-tuned.yaml.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Search only for such cells, such as pair=dora+adapter. Repeatable."),
    ] = None,
    by_shots: Annotated[
        bool, typer.Option("--by-shots", help="Search for each number of shots apart; otherwise on the largest one.")
    ] = False,
    seed: SeedOption = 0,
    data_root: options.DataRoot = None,
    annotations: options.Annotations = None,
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads; by default all.")] = None,
    json: AsJson = False,
) -> None:
    """Search settings for every pair of a grid with the same budget, on clips held out of the training clips."""
    from mmfuse.cli.tune import TuneRequest
    from mmfuse.cli.tune import tune as carry_out

    request = TuneRequest(
        grid=grid,
        budget=budget,
        trials=trials,
        out=out,
        only=tuple(only or ()),
        by_shots=by_shots,
        seed=seed,
        data_root=data_root,
        annotations=annotations,
        threads=threads,
        json=json,
    )
    raise typer.Exit(carry_out(request))
