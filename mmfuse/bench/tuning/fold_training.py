"""One trial: a model is trained on each fold with the setting, and says of each validation clip what it shows.

It is given a pool of training clips. What it trains, and how, is what a cell of the benchmark with these settings does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L

from mmfuse.bench import environment
from mmfuse.bench.clip_cache import store_folder
from mmfuse.bench.device_faults import out_of_memory
from mmfuse.bench.digests import tower_digest
from mmfuse.bench.epoch_tests import TestAfterEachEpoch
from mmfuse.bench.job import Attempt, Job, Progress, Report
from mmfuse.bench.precision import resolve_precision
from mmfuse.bench.prompt_files import prompts_of
from mmfuse.bench.run_cell import make_model, make_trainer, memory_filled, quiet
from mmfuse.bench.testing import Tester
from mmfuse.bench.tower_cache import load_towers
from mmfuse.bench.tuning.folds import Fold, TrainingPool, folds_of
from mmfuse.bench.tuning.sampler import REDUCTION
from mmfuse.bench.tuning.search import GivenUp, GoesOn, InTime, OutOfTime
from mmfuse.bench.tuning.space import Space, with_settings
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.encoders import ImageTower
from mmfuse.records.cell import Cell
from mmfuse.records.record import now

STEPS = REDUCTION
"""Steps of a fold, of which the first is the first rung: after a third of the epochs, and at the end."""


class FoldTraining:
    """Evaluates settings of one cell on folds of its training clips.

    Args:
        space: what is searched, with the cell.
        pool: the training clips; there is nothing else here to test on.
        folds: of the pool; by default as `folds_of` cuts them.
        store: folder of a clip store, as `store_folder` takes it; `None` keeps no clips.
        report: told how far the training of a fold is.
    """

    def __init__(
        self,
        space: Space,
        pool: TrainingPool,
        *,
        folds: tuple[Fold, ...] | None = None,
        store: str | None = None,
        report: Report = lambda _: None,
    ) -> None:
        self._space, self._pool, self._store, self._report = space, pool, store, report
        self.folds = folds_of(pool) if folds is None else folds
        self.micro_batch: int | None = None
        """Clips a batch, where memory did not suffice for those that the cell asks for."""

    @property
    def groups(self) -> list[str]:
        """The source of each validation clip, fold after fold; of each class apart."""
        return validation_groups(self.folds)

    def __call__(self, point: Mapping[str, Any], *, goes_on: GoesOn, in_time: InTime) -> str:
        """Train and test on all folds.

        Args:
            point: the setting.
            goes_on: told after a third of the first fold, and after each fold, how good it is; see `Asked.goes_on`.
            in_time: whether there is time left.

        Returns:
            A character a validation clip, fold after fold: 1 where it was recognised.

        Raises:
            GivenUp: others were better.
            OutOfTime: the time is spent.
            MmfuseError: a setting that cannot be, or a loss that became NaN.
        """
        cell = with_settings(self._space.cell, self._space.settings(point))
        hits = ""
        for number, fold in enumerate(self.folds):
            # Compared after a third of the first fold, at its end, and at the end of each later one.
            first = (lambda accuracy: goes_on(1, accuracy)) if number == 0 else None
            hits += self._fold(cell, fold, first_rung=first, in_time=in_time)
            if not goes_on(STEPS * (number + 1), hits.count("1") / len(hits)) and number + 1 < len(self.folds):
                raise GivenUp
        return hits

    def _fold(self, cell: Cell, fold: Fold, *, first_rung: Any, in_time: InTime) -> str:
        """As often as memory runs out, again with batches of half the size and accumulated gradients."""
        attempt = Attempt(self.micro_batch or cell.train.batch_size, started=now(), begun=time.monotonic())
        while True:
            environment.reset_peak_memory()
            try:
                return self._train(cell, fold, attempt.micro_batch, first_rung=first_rung, in_time=in_time)
            except Exception as error:
                if not out_of_memory(error) or attempt.micro_batch == 1:
                    raise
            attempt = attempt.with_less()
            self.micro_batch = attempt.micro_batch

    def _train(self, cell: Cell, fold: Fold, micro_batch: int, *, first_rung: Any, in_time: InTime) -> str:
        with quiet(), memory_filled(True):
            towers = load_towers(cell.encoders)
            job = Job(cell)
            data = self._data(cell, fold, micro_batch, towers.image.tower)
            model = make_model(
                cell,
                towers,
                class_names=data.class_names,
                templates=data.templates,
                frames=data.frames,
                prompts=prompts_of(cell, data.catalogue),
            )
            watch = _Watch(self._report, epochs=cell.train.epochs, first_rung=first_rung, in_time=in_time)
            trainer = make_trainer(
                job, micro_batch, resolve_precision(cell.precision, width=towers.image.tower.width), [watch]
            )
            # The files beside the weights say how pixels are normalised and what the layers do.
            tower = f"{towers.image.fingerprint}/{tower_digest(cell.encoders.image, 'image')}"
            tester = Tester(model, trainer, optimizations=job.optimizations, tower=tower)
            tester.keep_features(data)
            L.seed_everything(cell.training_seed, workers=True, verbose=False)
            trainer.fit(model, datamodule=data)
            watch.raise_if_ended()
            tester.test(data)
        seen = model.test_predictions
        return "".join("1" if right else "0" for right in (seen["predicted"] == seen["label"]).tolist())

    def _data(self, cell: Cell, fold: Fold, micro_batch: int, tower: ImageTower) -> FewShotVideoDataModule:
        return FewShotVideoDataModule(
            fold.catalogue,
            shots="all",
            draw=cell.draw,
            frames=cell.clip.frames or tower.native_frames,
            size=cell.clip.size or fold.catalogue.card.size or tower.native_size,
            flip=cell.clip.flip,
            views=cell.clip.views,
            batch_size=micro_batch,
            seed=cell.training_seed,
            damaged=cell.dataset.damaged,
            store=None if self._store is None else store_folder(self._store),
        )


def validation_groups(folds: Sequence[Fold]) -> list[str]:
    """The source of each validation clip, fold after fold. Sources are told apart by class, as groups are cut."""
    return [
        f"{label}/{group}"
        for fold in folds
        for label, group in zip(fold.held["label"], fold.held["group"], strict=True)
    ]


class _Watch(TestAfterEachEpoch):
    """Ends a training that is not worth going on with, or for which there is no time left.

    Args:
        report: told how far it is.
        epochs: of the training.
        first_rung: told the accuracy on the held-out clips after a third of the epochs; `None` does not ask.
        in_time: whether there is time left.
    """

    def __init__(self, report: Report, *, epochs: int, first_rung: Any, in_time: InTime) -> None:
        super().__init__(report, epochs=epochs)
        self._first_rung, self._in_time = first_rung, in_time
        self._at = -(-epochs // STEPS)
        self._ended: type[Exception] | None = None

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """End it where the time is spent."""
        if not self._in_time():
            self._end(trainer, OutOfTime)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the held-out clips at the first rung."""
        epoch = trainer.current_epoch + 1
        self._report(Progress("training", epoch, self._epochs, epoch / self._epochs))
        if self._first_rung is None or self._ended or epoch != self._at or epoch == self._epochs:
            return
        super().on_train_epoch_end(trainer, pl_module)
        if not self._first_rung(self._top1[-1]):
            self._end(trainer, GivenUp)

    def _end(self, trainer: L.Trainer, why: type[Exception]) -> None:
        self._ended = why
        trainer.should_stop = True

    def raise_if_ended(self) -> None:
        """Raise why the training was ended, if it was."""
        if self._ended is not None:
            raise self._ended
