"""Running one cell: the only place of the benchmark that joins data and model."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from torch.utils import deterministic
from transformers.utils.logging import disable_progress_bar

from mmfuse.bench import environment
from mmfuse.bench.clip_cache import store_folder
from mmfuse.bench.compiling import compiling
from mmfuse.bench.device_faults import out_of_memory
from mmfuse.bench.digests import known_inputs, videos_digest
from mmfuse.bench.engines.ddp import run_on_ranks
from mmfuse.bench.epoch_tests import TestAfterEachEpoch
from mmfuse.bench.feeding import begin_feeding, feeding_of
from mmfuse.bench.job import Attempt, Job, Outcome, Progress, Report
from mmfuse.bench.loggers import EVERY, CellLoggers, GuardedLogger
from mmfuse.bench.model_card import CARD, model_card
from mmfuse.bench.other_tests import Tested, evaluation_of, run_other_tests
from mmfuse.bench.precision import resolve_precision
from mmfuse.bench.progress_callback import ProgressCallback
from mmfuse.bench.prompt_files import prompts_of
from mmfuse.bench.resolve import ResolvedCell, dataset_root, resolve
from mmfuse.bench.tested_data import TestList, other_tests_digest, test_lists, trained_half
from mmfuse.bench.testing import Tester
from mmfuse.bench.tower_cache import LoadedTowers, load_towers
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.errors import MmfuseError, MmfuseWarning
from mmfuse.model.aligned import ALIGNED
from mmfuse.model.chunked import keep_freed_memory
from mmfuse.model.description import DESCRIPTION
from mmfuse.model.optimizations import DEFAULT_OPTIMIZATIONS, Optimizations
from mmfuse.model.recognizer import ActionRecognizer
from mmfuse.records.cell import Cell, Inputs, identity
from mmfuse.records.predictions import encode, metrics_of, tabulate
from mmfuse.records.record import (
    Cost,
    Metrics,
    Parameters,
    Predictions,
    Provenance,
    Record,
    Seeds,
    TestSelection,
    Views,
    now,
)
from mmfuse.utils.files import parse_json


@dataclass(frozen=True)
class Trained:
    """A cell after training and test, with what it cost."""

    data: FewShotVideoDataModule
    inputs: Inputs
    model: ActionRecognizer
    weights: dict[str, str]
    """SHA-256 of the pretrained weights of each tower, as they were read for the training."""
    train_seconds: float
    test_seconds: float
    """Of the main test alone."""
    waits: dict[str, float]
    """Seconds of `train_seconds` ("train") and `test_seconds` ("test") in which the device had no data."""
    precision: str
    device: str
    micro_batch: int
    notes: tuple[str, ...]
    test_selection: TestSelection | None
    others: tuple[Tested, ...] = ()
    """The tests beside the main one."""


def run_cell(job: Job, *, progress: Report) -> Outcome:
    """Train and test one cell, on one device in this process, or on several in processes of their own.

    The towers stay in memory for the next cell of this process. As often as memory runs out, the batch is halved and
    gradients are accumulated, so that the effective batch stays what the cell asks for.

    Args:
        job: the cell, and how to run it.
        progress: told now and then how far it is.

    Raises:
        MmfuseError: data or towers are missing, a setting is wrong, or the loss became NaN.
        RankFailed: on several devices, one of the processes failed.
    """
    progress(Progress("loading"))
    clips, rest = divmod(job.cell.train.batch_size, job.cell.devices)
    if rest or not clips:
        told = f"a batch of {job.cell.train.batch_size} clips cannot be shared among {job.cell.devices} devices"
        raise MmfuseError(told)
    run = run_here if job.cell.devices == 1 else run_on_ranks
    attempt = Attempt(micro_batch=clips, started=now(), begun=time.monotonic())
    while True:
        environment.reset_peak_memory()
        try:
            return run(job, attempt, progress)
        except Exception as error:
            if not out_of_memory(error) or attempt.micro_batch == 1:
                raise
        # Outside the handler, which would keep the tensors of the failed try alive.
        attempt = attempt.with_less()


def run_here(job: Job, attempt: Attempt, progress: Report) -> Outcome:
    """Train and test a cell in this process, and make its record."""
    trained = train_and_test(job, attempt.micro_batch, progress)
    return _outcome(job, trained, attempt)


def train_and_test(job: Job, micro_batch: int, progress: Report) -> Trained:
    """Train and test a cell in this process, which may be one of several ranks.

    Args:
        job: the cell.
        micro_batch: clips a batch in this process; gradients of several are added up to the cell's own batch.
        progress: told now and then how far it is.
    """
    cell = job.cell
    begin_feeding(job)
    with (
        quiet(),
        memory_filled(not job.optimizations.unfilled),
        compiling(job.optimizations.compile) as not_compiled,
        CellLoggers(job) as logged,
    ):
        resolved = resolve(cell, data_root=job.data_root, annotations=job.annotations)
        towers = load_towers(cell.encoders)
        native_size, native_frames = towers.image.tower.native_size, towers.image.tower.native_frames
        data = make_data(job, resolved, batch_size=micro_batch, native_size=native_size, native_frames=native_frames)
        others = other_lists(job, data)
        inputs = _inputs(resolved.inputs, data, others)
        _refuse_changed(job.known, inputs, since="the grid was planned")
        model = make_model(
            cell,
            towers,
            class_names=data.class_names,
            templates=data.templates,
            frames=data.frames,
            optimizations=job.optimizations,
            prompts=prompts_of(cell, data.catalogue),
        )
        diagnosis = _diagnosis(job, progress)
        callbacks: list[Callback] = [ProgressCallback(progress, epochs=cell.train.epochs)]
        callbacks += [diagnosis] if diagnosis else []
        precision = resolve_precision(cell.precision, width=towers.image.tower.width)
        trainer = make_trainer(job, micro_batch, precision, callbacks, logged.loggers)
        if job.optimizations.chunks and trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        # The files beside the weights say how pixels are normalised and what the layers do.
        tower = f"{towers.image.fingerprint}/{inputs.image_tower}"
        data.feed(feeding_of(job, trainer.strategy.root_device), tell=partial(_tell_of_features, progress))
        tester = Tester(model, trainer, optimizations=job.optimizations, tower=tower)
        tester.keep_features(data)
        logged.begin(data)
        L.seed_everything(cell.training_seed, workers=True, verbose=False)
        begun = time.monotonic()
        if cell.shots != 0:
            trainer.fit(model, datamodule=data)
        middle = time.monotonic()
        tester.test(data)
        end = time.monotonic()
        trainer.loggers = []  # the names of other tests' accuracies would be those of the main one
        tested = _test_others(job, others, model, data, tester, progress)
    _refuse_changed(inputs, _inputs(known_inputs(cell), data, others), since="the cell began")
    return Trained(
        data=data,
        inputs=inputs,
        model=model,
        weights=towers.fingerprints,
        train_seconds=middle - begun - (diagnosis.seconds if diagnosis else 0.0),
        test_seconds=end - middle,
        precision=str(trainer.precision),
        device=environment.device_name(trainer.strategy.root_device),
        micro_batch=micro_batch,
        waits={phase: waits.seconds for phase, waits in data.waits.items()},
        notes=tuple(dict.fromkeys(filter(None, (*data.remarks, *tester.remarks, *not_compiled, *logged.remarks)))),
        test_selection=diagnosis.found() if diagnosis else None,
        others=tuple(tested),
    )


def _diagnosis(job: Job, progress: Report) -> TestAfterEachEpoch | None:
    """What tests a cell after each epoch beside its training, where the grid asks for it and there is a training."""
    if "test_selection" not in job.diagnose or job.cell.shots == 0:
        return None
    return TestAfterEachEpoch(progress, epochs=job.cell.train.epochs)


def _test_others(
    job: Job,
    others: Sequence[TestList],
    model: ActionRecognizer,
    trained: FewShotVideoDataModule,
    tester: Tester,
    progress: Report,
) -> list[Tested]:
    """The tests beside the main one, whose predictions stay with the model."""

    def test(data: FewShotVideoDataModule) -> None:
        data.feed(trained.feeding, tell=partial(_tell_of_features, progress))
        tester.keep_features(data)
        tester.test(data)

    found = dict(model.test_predictions)
    tested = run_other_tests(
        others,
        model,
        make_data=lambda one: make_test_data(job, one, trained),
        templates=job.cell.templates,
        sentences=lambda one: prompts_of(job.cell, one.catalogue),
        test=test,
    )
    model.test_predictions = found
    return tested


def _tell_of_features(progress: Report, phase: str, done: int, total: int) -> None:
    progress(Progress("features" if phase == "train" else "testing", fraction=done / total))


def other_lists(job: Job, data: FewShotVideoDataModule) -> list[TestList]:
    """What a job's cell is tested on beside its main test list."""
    annotations = None if job.annotations is None else Path(job.annotations)
    return test_lists(job.cell, data.whole, data_root=job.data_root, annotations=annotations)


class InputsChanged(MmfuseError):
    """What a cell reads was replaced after the grid was planned, or while the cell ran: its numbers would be mixed."""


def _inputs(known: Inputs, data: FewShotVideoDataModule, others: Sequence[TestList]) -> Inputs:
    """Digests of all that a cell reads: those known without its data, and those of its data as they are now."""
    clips = {"train_clips": data.draw_fingerprint, "test_clips": data.test_fingerprint}
    read = {"videos": videos_digest(data.whole), "other_tests": other_tests_digest(others)}
    return known.model_copy(update={**clips, **read})


def _refuse_changed(before: Inputs, now: Inputs, *, since: str) -> None:
    if changed := before.changes(now):
        names = " and ".join(name.replace("_", " ") for name in changed)
        raise InputsChanged(f"the {names} changed since {since}; run the grid again, which then reads them anew")


@contextlib.contextmanager
def memory_filled(on: bool) -> Iterator[None]:
    """Whether torch fills new memory before it is written, as far as it is told to be deterministic."""
    setting: Any = (
        deterministic  # the module is replaced by an object that has this property, of which types know nothing
    )
    before = setting.fill_uninitialized_memory
    setting.fill_uninitialized_memory = on
    try:
        yield
    finally:
        setting.fill_uninitialized_memory = before


def make_data(
    job: Job, resolved: ResolvedCell, *, batch_size: int, native_size: int, native_frames: int | None = None
) -> FewShotVideoDataModule:
    """The data side of a job's cell.

    Args:
        job: the cell, and how to run it.
        resolved: what the cell means on this machine.
        batch_size: clips a batch.
        native_size: S of the image tower, in pixels, for cells that leave the size to it.
        native_frames: T of a video tower, for cells that leave the number of frames to it.
    """
    cell = job.cell
    return FewShotVideoDataModule(
        cell.dataset.request(),
        shots=cell.shots if cell.train_list is None else None,
        draw=cell.draw,
        split=cell.split,
        frames=cell.clip.frames or native_frames or resolved.frames,
        size=resolved.size or native_size,
        flip=cell.clip.flip,
        views=cell.clip.views,
        test_views=cell.clip.test_views,
        batch_size=batch_size,
        seed=cell.training_seed,
        root=resolved.root,
        annotations=resolved.annotations,
        validation=cell.train.validation,
        train_list=cell.train_list,
        protocol=cell.dataset.protocol,
        classes=trained_half(cell),
        damaged=cell.dataset.damaged,
        store=None if job.store is None else store_folder(job.store),
    )


def make_test_data(job: Job, tested: TestList, trained: FewShotVideoDataModule) -> FewShotVideoDataModule:
    """The clips of a test beside the main one, looked at as those of the training were.

    Args:
        job: the cell, and how to run it.
        tested: which clips.
        trained: the data that the cell trains on.
    """
    cell, target = job.cell, tested.test.target
    of: dict[str, Any] = {"dataset": cell.dataset.request(), "split": cell.split, "damaged": cell.dataset.damaged}
    of |= {"classes": "novel", "protocol": cell.dataset.protocol} if target is None else tested.request
    return FewShotVideoDataModule(
        **of,
        shots=0,
        frames=trained.frames,
        size=trained.size,
        flip=trained.flip,
        views=trained.views or 0,
        test_views=str(trained.test_views),
        batch_size=trained.batch_size,
        root=dataset_root(target or cell.dataset, job.data_root),
        annotations=job.annotations,
        store=None if job.store is None else store_folder(job.store),
    )


def make_model(
    cell: Cell,
    towers: LoadedTowers,
    *,
    class_names: Sequence[str],
    templates: Sequence[str],
    prompts: Mapping[str, Sequence[str]] | None = None,
    frames: int,
    optimizations: Optimizations = DEFAULT_OPTIMIZATIONS,
) -> ActionRecognizer:
    """The model side of a cell, on copies of its towers.

    What the data say comes as arguments: names of the classes, prompts, frames a clip.
    """
    return ActionRecognizer(
        class_names,
        image_encoder=towers.image.fresh(),
        text_encoder=towers.text.fresh(),
        image_method=cell.pair.image,
        text_method=cell.pair.text,
        fusion=ALIGNED if cell.shots == 0 else cell.fusion.model_dump(),
        templates=cell.templates or templates,
        prompts=prompts,
        frames=frames,
        feature="cls" if cell.shots == 0 else cell.encoders.feature,
        method_lr=cell.train.method_lr,
        fusion_lr=cell.train.fusion_lr,
        weight_decay=cell.train.weight_decay,
        warmup=cell.train.warmup,
        label_smoothing=cell.train.label_smoothing,
        augmentation=cell.train.augmentation,
        optimizer=cell.train.optimizer,
        momentum=cell.train.momentum,
        ema=cell.train.ema,
        seed=cell.training_seed,
        optimizations=optimizations,
    )


def make_trainer(
    job: Job,
    micro_batch: int,
    precision: Any,
    callbacks: list[Callback],
    loggers: Sequence[GuardedLogger] = (),
) -> L.Trainer:
    """A trainer that only trains: no checkpoints, no chatter, nothing in the current folder."""
    cell = job.cell
    if loggers:
        callbacks = [*callbacks, LearningRateMonitor(logging_interval="step")]
    return L.Trainer(
        max_epochs=cell.train.epochs,
        accelerator="auto",
        devices=cell.devices,
        precision=precision,
        # Unused weights are looked for: a fusion without text leaves a text method out.
        strategy="auto" if cell.devices == 1 else "ddp_find_unused_parameters_true",
        accumulate_grad_batches=max(1, cell.train.batch_size // (micro_batch * cell.devices)),
        callbacks=callbacks,
        logger=loggers or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if cell.train.validation else 0,
        log_every_n_steps=EVERY,
        deterministic=determinism(),
    )


def determinism() -> bool | Literal["warn"]:
    """What Lightning is told: an operator that has no deterministic form fails the cell.

    With a warning instead, the attention kernels of GPUs would take their gradients in any order. Apple's GPUs lack
    deterministic forms of operators that every model uses, so there it stays with a warning.
    """
    return "warn" if torch.backends.mps.is_available() else True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's remarks on loaders, tips and hardware out of the output; its errors still show."""
    speakers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [speaker.level for speaker in speakers]
    for speaker in speakers:
        speaker.setLevel(logging.ERROR)
    disable_progress_bar()  # of transformers, for reading weights
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", module="torch")
            # What is wrong with the lists was told once, before the first cell.
            warnings.filterwarnings("ignore", category=MmfuseWarning, module=__name__.replace(".", r"\."))
            yield
    finally:
        for speaker, level in zip(speakers, levels, strict=True):
            speaker.setLevel(level)


def _outcome(job: Job, trained: Trained, attempt: Attempt) -> Outcome:
    cell, data, model = job.cell, trained.data, trained.model
    seconds = time.monotonic() - attempt.begun
    inputs = trained.inputs
    own = identity(cell.config_hash, inputs)
    weights, checkpoint_bytes = environment.checkpoint(model, keep=job.keep_checkpoint)
    told = tabulate(data.test_clips, model.test_predictions)
    table = encode(told)
    train_clips, test_clips = len(data.train_clips), len(data.test_clips)
    record = Record(
        cell=cell,
        name=cell.name,
        config_hash=cell.config_hash,
        identity=own,
        inputs=inputs,
        state="done",
        class_names=tuple(data.class_names),
        class_subsets=data.catalogue.class_subsets or None,
        metrics=Metrics(
            **metrics_of(told),
            test_clips=test_clips,
            train_clips=train_clips,
        ),
        test_views=Views(frames=data.frames, size=data.size, **dataclasses.asdict(data.test_views)),
        parameters=Parameters(**model.trainable_parameters()),
        cost=Cost(
            seconds=seconds - (trained.test_selection.seconds if trained.test_selection else 0.0),
            train_seconds=trained.train_seconds,
            test_seconds=trained.test_seconds,
            train_clips_per_second=train_clips * cell.train.epochs / trained.train_seconds if train_clips else None,
            test_clips_per_second=test_clips / trained.test_seconds,
            train_wait_seconds=trained.waits["train"] if train_clips else None,
            test_wait_seconds=trained.waits["test"],
            peak_memory_bytes=environment.peak_memory(),
            checkpoint_bytes=checkpoint_bytes,
        ),
        seeds=Seeds(draw=cell.draw, seed=cell.seed, training=cell.training_seed),
        recipes=None if cell.shots == 0 else {part: dataclasses.asdict(one) for part, one in model.recipes.items()},
        provenance=_provenance(job, trained, attempt.started),
        test_selection=trained.test_selection,
        notes=(*attempt.notes, *trained.notes),
        command=job.command,
    )
    predictions = Predictions(file=f"{record.stem}.csv.gz", sha256=environment.digest(table), clips=test_clips)
    others = {
        one.tested.test.name: evaluation_of(one, stem=record.stem, train_clips=train_clips) for one in trained.others
    }
    evaluations = {name: evaluation for name, (evaluation, _) in others.items()} or None
    record = record.model_copy(update={"predictions": predictions, "evaluations": evaluations})
    files = {"predictions": table}
    files |= {f"predictions/{evaluation.predictions.file}": content for evaluation, content in others.values()}
    files |= {f"checkpoint/{name}": content for name, content in weights.items()}
    if weights:
        card = model_card(parse_json(weights[DESCRIPTION]), record, files=weights)
        files[f"checkpoint/{CARD}"] = card.encode()
    return Outcome(record, files)


def _provenance(job: Job, trained: Trained, started: str) -> Provenance:
    return Provenance(
        versions=environment.versions(),
        device=trained.device,
        precision=trained.precision,
        threads=torch.get_num_threads(),
        devices=job.cell.devices,
        micro_batch=trained.micro_batch,
        commit=environment.commit(),
        host=environment.host(),
        started=started,
        finished=now(),
        weights=trained.weights,
        speed=job.optimizations.changed(),
        certified=trained.data.certified,
        tuned=job.tuned,
    )


__all__ = ["Inputs", "make_data", "make_model", "make_trainer", "quiet", "run_cell"]
