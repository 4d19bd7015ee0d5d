"""Lightning's loggers beside a cell: what they are told, and that whatever becomes of them changes no number.

A logger is told of the resolved cell, the loss and the learning rates every ten steps, the accuracies of validation and
test, and a picture of what is read. One that fails is left alone from then on, and the record says so.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from lightning.pytorch import loggers
from lightning.pytorch.loggers.logger import Logger
from PIL import Image

from mmfuse.bench.job import Job
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.data.frames.video import UnreadableVideo
from mmfuse.data.sheet import draw_sheet, shown_clips
from mmfuse.errors import one_line
from mmfuse.records.cell import flattened
from mmfuse.utils.files import write_atomically

EVERY = 10
"""Steps from one loss that is logged to the next: on a GPU each is waited for."""
_PROJECT = "mmfuse"
_ON_A_SHEET = 8


class GuardedLogger(Logger):
    """One of Lightning's loggers, which is made when it is first told something, and left alone once it fails.

    Args:
        kind: its name.
        make: makes it.
    """

    def __init__(self, kind: str, make: Callable[[], Any]) -> None:
        super().__init__()
        self.kind = kind
        self.fault = ""
        """Why it was left alone; empty as long as it works."""
        self._make = make
        self._made: Any = None

    def _try(self, action: Callable[[Any], Any]) -> Any:
        if self.fault:
            return None
        try:
            if self._made is None:
                self._made = self._make()
            return action(self._made)
        except Exception as fault:  # of a network, a disk, a service: none of them is the cell's
            self.fault = (
                f"the logger {self.kind!r} failed and was left alone ({type(fault).__name__}: {one_line(fault)})"
            )
            return None

    @property
    def name(self) -> str:
        """See `Logger`."""
        return str(self._try(lambda logger: logger.name))

    @property
    def version(self) -> int | str | None:
        """See `Logger`."""
        version: int | str | None = self._try(lambda logger: logger.version)
        return version

    @property
    def experiment(self) -> Any:
        """What the logger writes to; `None` once it has failed."""
        return self._try(lambda logger: logger.experiment)

    @property
    def save_dir(self) -> str | None:
        """See `Logger`."""
        return None if (found := self._try(lambda logger: logger.save_dir)) is None else str(found)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """See `Logger`."""
        self._try(lambda logger: logger.log_metrics(metrics, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """See `Logger`."""
        self._try(lambda logger: logger.log_hyperparams(params))

    def log_picture(self, name: str, picture: Image.Image) -> None:
        """Show a picture: in the service, in TensorBoard's events, or as a file beside the metrics."""
        self._try(lambda logger: _PICTURES[self.kind](logger, name, picture))

    def save(self) -> None:
        """See `Logger`."""
        self._try(lambda logger: logger.save())

    def finalize(self, status: str) -> None:
        """See `Logger`."""
        self._try(lambda logger: logger.finalize(status))

    def close(self) -> None:
        """End the run, so that the next cell of this process begins another one."""
        if self._made is not None and self.kind == "wandb":
            self._try(lambda logger: logger.experiment.finish())


def _as_file(logger: Any, name: str, picture: Image.Image) -> None:
    content = io.BytesIO()
    picture.save(content, format="PNG")
    write_atomically(Path(logger.log_dir) / f"{name}.png", content.getvalue())


_PICTURES: dict[str, Callable[[Any, str, Image.Image], None]] = {
    "csv": _as_file,
    "mlflow": lambda logger, name, picture: logger.experiment.log_image(logger.run_id, picture, f"{name}.png"),
    "tensorboard": lambda logger, name, picture: logger.experiment.add_image(
        name, np.asarray(picture), dataformats="HWC"
    ),
    "wandb": lambda logger, name, picture: logger.log_image(key=name, images=[picture]),
}


def _csv(folder: str, run: str) -> Any:
    return loggers.CSVLogger(save_dir=folder, name=run)


def _tensorboard(folder: str, run: str) -> Any:
    # Its table of hyperparameters would need a metric that it is of.
    return loggers.TensorBoardLogger(save_dir=folder, name=run, default_hp_metric=False)


def _mlflow(folder: str, run: str) -> Any:
    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db"
    return loggers.MLFlowLogger(
        experiment_name=_PROJECT, run_name=run, tracking_uri=address, artifact_location=f"{folder}/mlflow"
    )


def _wandb(folder: str, run: str) -> Any:
    import wandb  # type: ignore[import-not-found,unused-ignore]

    quiet = wandb.Settings(silent=True, console="off")
    project = os.environ.get("WANDB_PROJECT") or _PROJECT
    return loggers.WandbLogger(save_dir=folder, name=run, project=project, settings=quiet)


_MAKERS: dict[str, Callable[[str, str], Any]] = {
    "csv": _csv,
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "wandb": _wandb,
}


class CellLoggers:
    """The loggers of one cell, whose runs end with it.

    Args:
        job: the cell, with the names of its loggers.
    """

    def __init__(self, job: Job) -> None:
        folder = job.log_folder or "."
        self._cell = job.cell
        self.loggers: Sequence[GuardedLogger] = [
            GuardedLogger(name, lambda maker=_MAKERS[name]: _made(maker, folder, job.cell.file_stem))  # type: ignore[misc]
            for name in job.loggers
        ]

    def begin(self, data: FewShotVideoDataModule) -> None:
        """Tell the loggers of the resolved cell, and show them what is read."""
        if not self.loggers:
            return
        settings = flattened(self._cell.model_dump(mode="json"))
        picture = _sheet_of(data)
        for logger in self.loggers:
            logger.log_hyperparams({f"cell/{key}": value for key, value in settings.items()})
            if picture is not None:
                logger.log_picture("clips", picture)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        for logger in self.loggers:
            logger.close()

    @property
    def remarks(self) -> list[str]:
        """What is to be said of loggers that failed."""
        return [logger.fault for logger in self.loggers if logger.fault]


def _made(maker: Callable[[str, str], Any], folder: str, run: str) -> Any:
    Path(folder).mkdir(parents=True, exist_ok=True)
    return maker(folder, run)


def _sheet_of(data: FewShotVideoDataModule) -> Image.Image | None:
    """A few clips as training reads them, or the test where there is no training; `None` where videos are not here."""
    training = not data.train_clips.empty
    clips = data.train_clips if training else data.test_clips
    first = clips.assign(turn=clips.groupby("label").cumcount()).sort_values(["turn", "label"], kind="stable")
    try:
        data.prepare_data()
        shown = shown_clips(data, first[:_ON_A_SHEET], training=training)
    except (UnreadableVideo, OSError):  # only decoded clips are kept; or the training tells of it
        return None
    part = "training, first epoch" if training else "test"
    return draw_sheet(shown, title=f"{data.catalogue.name}, {part}: {data.frames} frames of {data.size} x {data.size}")
