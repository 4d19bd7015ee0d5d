"""`mmfuse push`: give what was made to others."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfuse.cli.common import amount, out, print_json
from mmfuse.cli.options import AsJson
from mmfuse.errors import MmfuseWarning

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
    console = out()
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


def add_commands(app: typer.Typer) -> None:
    """Let the command take what is here."""
    app.command("push")(push)
