"""`mmfuse push` and `mmfuse export`: give what was made to others."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfuse.cli import completion, options
from mmfuse.cli.common import amount, print_json
from mmfuse.cli.common import out as console_of_results
from mmfuse.cli.options import AsJson
from mmfuse.errors import MmfuseError, MmfuseWarning, unknown

if TYPE_CHECKING:
    from mmfuse.bench.push import Pushed, Upload


def push(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that train, or a cell that keeps checkpoints, left.")
    ],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model's repository on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    branch: Annotated[
        str | None,
        typer.Option("--branch", "--revision", metavar="NAME", help="Where to write; by default the main branch."),
    ] = None,
    message: Annotated[str | None, typer.Option(metavar="TEXT", help="The commit's message.")] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request on a repository that exists.")
    ] = False,
    licence: Annotated[
        str | None,
        typer.Option("--license", metavar="ID", help="The licence of the trained weights, such as apache-2.0."),
    ] = None,
    records: Annotated[
        bool,
        typer.Option(
            "--records", help="Push the record and the prediction for each test clip too, which name the clips."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files, their sizes and the card, and stop.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Put a trained model on the Hugging Face hub, with a model card."""
    from mmfuse.bench.push import prepare_upload
    from mmfuse.bench.push import push as carry_out
    from mmfuse.utils.hub import repository_id

    repository_id(repository)
    upload = prepare_upload(folder, records=records, licence=licence)
    for warning in upload.warnings:
        warnings.warn(warning, MmfuseWarning, stacklevel=1)
    done = None
    if not dry_run:
        done = carry_out(upload, repository, private=private, branch=branch, message=message, create_pr=create_pr)
    _show_push(upload, repository, done, branch=branch, json=json)


def _show_push(upload: Upload, repository: str, done: Pushed | None, *, branch: str | None, json: bool) -> None:
    """Tell what was written, or what would be."""
    sizes = upload.sizes
    if json:
        files = [{"path": name, "bytes": size} for name, size in sizes.items()]
        told = {"repository": repository, "files": files, "card": upload.card}
        print_json({**told, "address": done and done.address, "commit": done and done.commit})
        return
    console = console_of_results()
    for name, size in sizes.items():
        console.print(f"{amount(size):>9}  {name}", markup=False, soft_wrap=True)
    total = f"{len(sizes)} files, {amount(sum(sizes.values()))}"
    if done is None:
        console.print(f"{total}; nothing was pushed. The card:\n", markup=False, soft_wrap=True)
        console.print(upload.card, markup=False, soft_wrap=True, highlight=False)
        return
    console.print(f"{total}, pushed as {done.address}, commit {done.commit[:12]}", markup=False, soft_wrap=True)
    if "/discussions/" not in done.address:
        at = "" if branch is None else f" --revision {branch}"
        console.print(f"try next: mmfuse predict {repository} VIDEO{at}", markup=False, soft_wrap=True)


FORMATS = ("evaleval", "eval-results", "croissant")


def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="|".join(FORMATS),
            help="Results in the schema of Every Eval Ever or as the hub's .eval_results, or clips as Croissant.",
            autocompletion=completion.one_of(*FORMATS),
        ),
    ],
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="RESULTS|DATASET",
            help="A results folder or what train left; for croissant a data set by name, or a folder of your own.",
            show_default=False,
        ),
    ] = None,
    organization: Annotated[str | None, typer.Option(metavar="NAME", help="Who ran the evaluation (evaleval).")] = None,
    organization_url: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The address of who ran it (evaleval).")
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=OWNER/DATASET:TASK",
            help="Which benchmark of the hub stands for a data set (eval-results). {shots} and {split} are filled in. "
            "May be repeated.",
        ),
    ] = None,
    source_url: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where the results can be read (eval-results).")
    ] = None,
    split: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Which official split (croissant); by default the first.")
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(metavar="K|all", help="Training clips a class (croissant); by default the whole lists."),
    ] = None,
    draw: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Which draw, with --shots (croissant); by default draw 0.")
    ] = None,
    root: options.Root = None,
    annotations: options.ListsBelowRoot = None,
    date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The day that the export tells; by default today.")
    ] = None,
) -> None:
    """Write results or draws in the formats of others."""
    if to not in FORMATS:
        raise unknown("format", to, FORMATS)
    from mmfuse.cli import exporting

    _refuse_meaningless(
        to,
        evaleval={"--organization": organization, "--organization-url": organization_url},
        eval_results={"--benchmark": benchmark, "--source-url": source_url},
        croissant={
            "--split": split,
            "--shots": shots,
            "--draw": draw,
            "--root": root,
            "--annotations": annotations,
        },
    )
    if to == "croissant":
        if what is None:
            raise MmfuseError("name the data set whose clips are exported, such as mmfuse export ucf101 --to croissant")
        if draw is not None and shots is None:
            raise MmfuseError("--draw belongs to a number of training clips a class; name it by --shots")
        request = exporting.DrawRequest(what, split or 1, shots, draw or 0, root, annotations, date)
        found = exporting.export_draw(request)
    else:
        found = exporting.export_results(
            exporting.ResultsRequest(
                None if what is None else Path(what),
                to,
                organization=organization,
                organization_url=organization_url,
                benchmarks=benchmark or [],
                source_url=source_url,
                date=date,
            )
        )
    exporting.write_export(found, out)


def _refuse_meaningless(to: str, **options_of: dict[str, object]) -> None:
    """Refuse an option that belongs to another format."""
    for name, given in options_of.items():
        kind = name.replace("_", "-")
        for option, value in given.items():
            if kind != to and value is not None:
                raise MmfuseError(f"{option} has no meaning for --to {to}; it belongs to --to {kind}")


def add_commands(app: typer.Typer) -> None:
    """Let the command take what is here."""
    app.command("push")(push)
    app.command("export")(export)
