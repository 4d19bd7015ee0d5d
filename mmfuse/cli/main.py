"""`mmfuse`: train one model, name the action in a video, look after data sets, and all that `mmfuse-bench` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mmfuse.cli import completion, data, options, share, verbs
from mmfuse.cli.common import WholeHelp, run_app
from mmfuse.cli.options import AsJson
from mmfuse.cli.search_verbs import best
from mmfuse.utils.interrupts import undisturbed

app = typer.Typer(
    cls=WholeHelp,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Few-shot action recognition with frozen image and text towers.",
)

app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def tool(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print versions and stop.")] = False,
) -> None:
    """Few-shot action recognition with frozen image and text towers."""
    if version:
        from mmfuse.cli.listing import print_version

        print_version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def train(
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME|DIR",
            help="A data set by name, or a folder of your own (see mmfuse data check).",
            autocompletion=completion.datasets,
        ),
    ],
    shots: options.Shots,
    pair: Annotated[
        str,
        typer.Option(
            metavar="PAIR",
            help="Methods as image+text, such as dora+adapter.",
            autocompletion=completion.pairs,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the model, its record and its predictions.")],
    draw: options.Draw = 0,
    protocol: options.Protocol = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the training clips.")] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sentences for each class, in YAML or JSON, in the place of the templates."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting, such as train.method_lr=1e-3, fusion.kind=late or image.rank=16. May be repeated.",
        ),
    ] = None,
    data_root: options.DataRoot = None,
    annotations: options.Annotations = None,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="CPU threads; by default all. With 1 the numbers are those of a grid's cell to the last digit.",
        ),
    ] = None,
    damaged: options.Damaged = "error",
    logger: options.Loggers = None,
    json: AsJson = False,
) -> None:
    """Train and test one model, and keep it."""
    from mmfuse.cli.train import TrainRequest
    from mmfuse.cli.train import train as carry_out

    request = TrainRequest(
        dataset=dataset,
        shots=shots,
        pair=pair,
        out=out,
        draw=draw,
        protocol=protocol,
        epochs=epochs,
        prompts=prompts,
        set=set_ or [],
        data_root=data_root,
        annotations=annotations,
        threads=threads,
        damaged=damaged,
        loggers=logger or [],
        json=json,
    )
    raise typer.Exit(carry_out(request))


@app.command()
def predict(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Folder that train, or a cell that keeps checkpoints, left; or owner/name of a model on the hub.",
        ),
    ],
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO", help="Video files, or folders whose videos are meant.")
    ],
    top: Annotated[int, typer.Option(metavar="N", help="How many classes to show.")] = 5,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES|FILE",
            help="Other classes than those trained on (zero-shot): names with commas between them, or a file with one "
            "name a line.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Other classes by sentences for each, in YAML or JSON, as for training."),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="PICTURE", help="Draw the sampled frames and each one's share in the decision."),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Branch, tag or commit, where CHECKPOINT is a model on the hub."),
    ] = None,
    image_encoder: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="The image tower, where it is not found by the name that it had."),
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="The text tower, where it is not found by the name that it had."),
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", help="How many videos go through the towers together.")] = 8,
    damaged: options.Damaged = "error",
    json: AsJson = False,
) -> None:
    """Name the action in videos."""
    with undisturbed():
        from mmfuse.cli.predict import PredictRequest
        from mmfuse.cli.predict import predict as carry_out

    request = PredictRequest(
        checkpoint=checkpoint,
        videos=videos,
        top=top,
        classes=classes,
        prompts=prompts,
        explain=explain,
        revision=revision,
        image_encoder=image_encoder,
        text_encoder=text_encoder,
        batch_size=batch_size,
        damaged=damaged,
        json=json,
    )
    raise typer.Exit(carry_out(request))


app.command("best")(best)
verbs.add_verbs(app)
share.add_commands(app)


def main() -> NoReturn:
    """Entry point of `mmfuse`."""
    run_app(app, "mmfuse")


if __name__ == "__main__":
    main()
