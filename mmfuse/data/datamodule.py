"""`FewShotVideoDataModule`: K clips a class to learn from, the whole official test list to be judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch.distributed
from torch.utils.data import DataLoader, Dataset

from mmfuse.data import few_shot
from mmfuse.data.base_to_novel import base_clips, part_of
from mmfuse.data.batches import Batch, ClipBatches, EpochBatches, FixedBatches
from mmfuse.data.cache.clip_store import ClipStore, StoreFormat, WantedClip, wanted_clips
from mmfuse.data.cache.feature_batches import BLOCK, Compute, Decoding, Features
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.data.class_subsets import Half
from mmfuse.data.few_shot import Shots
from mmfuse.data.frames.sources import CachedFrames, DecodedFrames, FrameSource
from mmfuse.data.frames.video import Damaged, decoder_version
from mmfuse.data.frames.views import ONE_VIEW, Views
from mmfuse.data.loader import Feeding, ReadAhead, Transport, clip_loader
from mmfuse.data.published_lists import read_list, training_clips
from mmfuse.data.tiny import make_clips
from mmfuse.data.waits import Waits
from mmfuse.errors import MmfuseError
from mmfuse.utils.files import absolute_path

MEMORY_BUDGET = 2**30


class FewShotVideoDataModule(L.LightningDataModule):
    """Clips of a K-shot training set and of the official test list, as batches of frames.

    A batch is {"video": uint8 (B, T, 3, S, S), "label": int64 (B,), "index": int64 (B,)}; `index` is the row of
    `train_clips`, `validation_clips` or `test_clips`. Training looks at a random frame of each of T equal segments, in
    a random crop, half of the clips mirrored; testing at the centre frames and the centre crop, or at several views of
    a video, which stand behind its clip: "video" uint8 (B, V, T, 3, S, S). Training
    goes round a number of such views of a clip. What a clip shows in an epoch depends on the epoch and the clip alone
    (and on the seed, where every epoch has a view of its own): not on workers, batches, processes or where its frames
    are kept.
    Colours are neither scaled nor normalised: the model knows its tower.

    Shape legend: B clips, V views of a test video, T frames, S side of the square.

    >>> data = FewShotVideoDataModule("tiny", shots=2)
    >>> len(data.class_names), len(data.train_clips), len(data.test_clips)
    (12, 24, 240)
    """

    def __init__(
        self,
        dataset: str | dict[str, Any] | Catalogue,
        *,
        shots: Shots | None = None,
        draw: int = 0,
        split: int = 1,
        frames: int | None = None,
        size: int | None = None,
        flip: bool | None = None,
        views: int | None = None,
        test_views: str = "1x1",
        batch_size: int = 16,
        seed: int = 0,
        root: Path | str | None = None,
        annotations: Path | str | None = None,
        num_workers: int = 0,
        validation: float = 0.0,
        store: Path | str | None = None,
        train_list: Path | str | None = None,
        protocol: str | None = None,
        classes: Half | Sequence[str] | None = None,
        damaged: Damaged = "error",
        memory_budget: int = MEMORY_BUDGET,
    ) -> None:
        """Read the lists and draw the clips; no video is opened yet.

        Args:
            dataset, split, root, annotations: see `mmfuse.data.catalogue.load.load_catalogue`. A catalogue that was
                read already takes the place of all four.
            shots: training clips a class, or "all"; 0 for data that are only tested on.
            draw: which ones.
            frames, size: T and S; by default what the data set's card says. Most cards leave S to the model, since
                towers differ in what they were trained on: `ImageTower.native_size`; without a word it is 224.
            flip: mirror half of the clips in training; by default what the card says.
            views: V, how many views of a clip (frames, crop, mirror) training goes round; 0 for a new one every epoch;
                by default what the card says.
            test_views: clips × crops of each test video, such as "4x3", whose probabilities a model averages; see
                `mmfuse.data.frames.views`.
            batch_size: clips a batch, in each process; of test clips with several views so many views.
            seed: of the order, of the frames looked at and of the crops.
            num_workers: processes that read clips beside the training; 0 reads in the training process.
            validation: share of each class's training clips, in whole source groups, that is held out as
                `validation_clips`.
            store: folder of a clip store (see `mmfuse.data.cache.clip_store`); what it lacks is decoded into it
                when it is first looked at (`mmfuse data cache` decodes ahead, on all cores).
            train_list: a published list of training clips instead of `shots` and `draw`; see
                `mmfuse.data.published_lists`.
            protocol: a published protocol ("vifi", "ju"), whose list for `shots` takes the place of the draw; its files
                are looked for in `annotations`, below `root` and in $MMFUSE_ANNOTATIONS.
            classes: some of the classes only, which are then numbered from 0: official names, or "base" or "novel", a
                half of the base-to-novel setting (see `mmfuse.data.base_to_novel`).
            damaged: "error", or "keep" the frames that can be read of a damaged video.
            memory_budget: bytes of decoded training clips that may be kept where there is no store.

        Raises:
            MmfuseError: lists that are missing or not the certified ones, a K that a class cannot give, a setting out
                of range.

        Warns:
            MmfuseWarning: about lists of one's own: sources with clips in both, copies, numbers for classes, files that
                were passed over.
        """
        super().__init__()
        shots, draw, split, frames, size, views, batch_size, seed, num_workers = map(
            few_shot.plain_number, (shots, draw, split, frames, size, views, batch_size, seed, num_workers)
        )
        _check(frames=frames, size=size, batch_size=batch_size, num_workers=num_workers, validation=validation)
        whole = dataset if isinstance(dataset, Catalogue) else _read(dataset, split, root, annotations)
        self.whole: Catalogue = whole
        """The data set with all classes."""
        self.catalogue: Catalogue = part_of(whole, classes, protocol=protocol)
        self.card = self.catalogue.card
        self.class_names: list[str] = list(self.catalogue.phrases)
        self.templates: list[str] = list(self.card.templates)
        self.frames = self.card.frames if frames is None else frames
        self.size = self.card.usual_size if size is None else size
        self.flip = self.card.flip if flip is None else bool(flip)
        self.views = (self.card.views if views is None else views) or None
        self.test_views = Views.parse(test_views)
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.waits = {"train": Waits(), "test": Waits()}
        """How long training, with its validation, and testing have waited for data so far."""
        self._feeding_note = ""
        self.feeding = Feeding(num_workers)
        """How batches reach the process that trains; see `feed`."""
        self.certified = False
        """Whether draw and test list have the fingerprints on record; False where none are on record."""
        drawn = self._drawn(whole, shots, draw, absolute_path(train_list), protocol)
        self.draw_fingerprint = few_shot.fingerprint(drawn)
        self.train_clips, self.validation_clips = few_shot.hold_out(self.catalogue, drawn, share=validation)
        self.test_clips = self.catalogue.part("test")
        self.test_fingerprint = few_shot.fingerprint(self.test_clips)
        self._decoding = DecodedFrames(short_side=self.card.scale_for(self.size), damaged=damaged)
        self._memory = CachedFrames(
            self._decoding, frames=self.frames, candidates=self.card.candidates, budget=memory_budget
        )
        self._clip_store = self._store_in(absolute_path(store))
        self._ready = False
        self._features: Features | None = None
        self._order: EpochBatches | None = None
        self._tell: Callable[[str, int, int], None] = _to_nobody
        self._keep_hyperparameters(
            shots=shots, draw=draw, validation=float(validation), train_list=train_list, protocol=protocol
        )

    def _keep_hyperparameters(self, **settings: Any) -> None:
        """Put into `hparams`, for loggers and Lightning's checkpoints, which clips these are and how they are shown."""
        shown = {name: getattr(self, name) for name in ("frames", "size", "flip", "views", "batch_size", "seed")}
        drawn = {"draw_fingerprint": self.draw_fingerprint, "test_fingerprint": self.test_fingerprint}
        shown["test_views"] = str(self.test_views)
        named = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
        of = {"dataset": self.catalogue.name, "split": self.catalogue.split, "damaged": self._decoding.damaged}
        # One group, as a model has a seed and a number of frames of its own.
        self.save_hyperparameters({"data": {**of, **named, **shown, **drawn}})

    def use_cached_features(
        self, compute: Compute, *, width: int, key: str, steps: int | None = None, folder: Path | None = None
    ) -> None:
        """Give batches of frame features instead of video, computed once and shared.

        See `mmfuse.data.cache.feature_batches`. For a frozen image tower, and only where the views of a clip are
        limited in number.

        Args:
            compute: the tower: clips, uint8 (B, T, 3, S, S), to features, float32 (B, T, F).
            width: F.
            key: names the tower, its weights and its precision; features under another key are never mixed in.
            steps: features a clip; as many as frames where None.
            folder: where features are kept; by default in the cache folder.

        Raises:
            MmfuseError: each epoch has a view of its own, so that nothing could be shared.
        """
        if self.views is None:
            raise MmfuseError("features can be kept only for a limited number of views; set views to 1 or more")
        sampling = {
            "frames": self.frames,
            "size": self.size,
            "short_side": self._decoding.short_side,
            "candidates": self.card.candidates,
            "views": self.views,
            "flip": self.flip,
            "damaged": self._decoding.damaged,
            "decoder": decoder_version(),
        }
        self._features = Features(
            compute,
            frames=self.frames if steps is None else steps,
            views=self.views,
            width=width,
            key={"tower": key, **sampling},
            folder=folder,
        )

    def feed(self, feeding: Feeding, *, tell: Callable[[str, int, int], None] | None = None) -> None:
        """Say how batches reach the process that trains, and which device they are for.

        Args:
            feeding: how.
            tell: told of features that are computed: for "train" or "test", clips done, clips to do.
        """
        self.feeding, self.num_workers = feeding, feeding.workers
        self._tell = tell or _to_nobody
        self.waits = {"train": Waits(feeding.device), "test": Waits(feeding.device)}

    @property
    def features_fault(self) -> str:
        """Why served features are not kept on the disk; empty as long as they are."""
        return "" if self._features is None else self._features.fault

    @property
    def remarks(self) -> list[str]:
        """What is to be said of how clips and features were come by; mostly nothing."""
        return [remark for remark in (self.features_fault, self._feeding_note) if remark]

    @property
    def sampling(self) -> dict[str, Any]:
        """How frames are taken from a video: what whoever names the action in another video has to know."""
        several = {"test_views": str(self.test_views)} if self.test_views.count > 1 else {}
        return {"frames": self.frames, "size": self.size, "short_side": self.card.scale_for(self.size), **several}

    def _drawn(
        self, whole: Catalogue, shots: Shots | None, draw: int, train_list: Path | None, protocol: str | None
    ) -> pd.DataFrame:
        """The training clips of the classes that are looked at; a draw of all of them is what is certified."""
        if (shots is None) == (train_list is None):
            raise MmfuseError("say either shots (clips a class, or 'all') or train_list (a published list of clips)")
        if train_list is not None:
            return read_list(self.catalogue, train_list)
        assert shots is not None
        if shots == 0 and not isinstance(shots, bool):
            self.certified = few_shot.certify_test_list(whole)
            return self.catalogue.part("train").iloc[:0]
        if protocol is not None:  # the digest that a list was found by vouches for the training clips
            self.certified = few_shot.certify_test_list(whole)
        if protocol is not None and self.catalogue is not whole:
            return base_clips(whole, self.catalogue, shots=shots, draw=draw, protocol=protocol)
        if protocol is not None:
            return training_clips(whole, shots=shots, draw=draw, protocol=protocol)
        rows = few_shot.draw_clips(whole, shots=shots, draw=draw)
        self.certified = few_shot.certify(whole, rows, shots=shots, draw=draw)
        return rows if self.catalogue is whole else few_shot.draw_clips(self.catalogue, shots=shots, draw=draw)

    def _store_in(self, folder: Path | None) -> ClipStore | None:
        if folder is None:
            return None
        decoding = self._decoding
        sampling = StoreFormat(frames=self.frames, short_side=decoding.short_side, damaged=decoding.damaged)
        return ClipStore(folder, dataset=self.catalogue.name, sampling=sampling)

    # --- files -------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Make the clips of the generated data set, once for all processes of this machine."""
        make_clips(self.catalogue)

    def setup(self, stage: str | None = None) -> None:
        """Find every video before any is decoded.

        Raises:
            MmfuseError: some are missing; they are counted and the first ones named.
        """
        if self._ready:
            return
        make_clips(self.catalogue)
        clips = {"training": self.train_clips, "validation": self.validation_clips, "test": self.test_clips}
        stored = _stored(self._clip_store, self._wanted())
        missing = {part: _absent(rows, besides=stored) for part, rows in clips.items()}
        if any(missing.values()):
            raise MmfuseError(_report(missing, clips, self.catalogue))
        self._ready = True

    def _wanted(self) -> list[WantedClip]:
        return wanted_clips(
            (self.train_clips, self.card.candidates),
            (self.validation_clips, 1),
            (self.test_clips, self.test_views.clips),
        )

    def _source(self, otherwise: FrameSource) -> FrameSource:
        """The clip store where there is one."""
        return self._clip_store.reader(self._wanted(), otherwise=otherwise) if self._clip_store else otherwise

    # --- batches -----------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Batch]:
        """Every training clip once an epoch, in a new order and from the next view each time, mirrored where due.

        So too in a loop that is written by hand: each pass over a loader is the next epoch. To begin again, call
        `loader.sampler.set_epoch(0)`.
        """
        self._be_ready()
        if self.train_clips.empty:
            raise MmfuseError("there are no clips to train on: shots is 0, which is for data that are only tested on")
        return self._loader(self.train_clips, self._source(self._in_memory(self.train_clips)), training=True)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """The held-out clips in order; empty without a held-out share."""
        self._be_ready()
        if self.validation_clips.empty:
            return []
        return self._loader(self.validation_clips, self._source(self._in_memory(self.validation_clips)), training=False)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The whole official test list, in order."""
        self._be_ready()
        source = self._source(self._decoding)
        return self._loader(self.test_clips, source, training=False, test_views=self.test_views, phase="test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The same as for testing: `trainer.predict` goes over the test list."""
        return self.test_dataloader()

    def _in_memory(self, clips: pd.DataFrame) -> CachedFrames:
        """Where clips come from without a store: memory that forked processes share, or a part of it for each."""
        if not self.num_workers or self._clip_store is not None:
            return self._memory
        if not self.feeding.forks:
            return self._memory.divided(self.num_workers)
        self._memory.fill(clips["path"])
        return self._memory

    def _be_ready(self) -> None:
        if not self._ready:
            self.prepare_data()
            self.setup()

    def clip_batches(
        self, clips: pd.DataFrame, source: FrameSource, *, training: bool, views: int | None, test_views: Views
    ) -> ClipBatches:
        """Clips as this module looks at them; the arguments are those of `ClipBatches`."""
        return ClipBatches(
            clips,
            source=source,
            frames=self.frames,
            size=self.size,
            training=training,
            candidates=self.card.candidates,
            flip=self.flip,
            seed=self.seed,
            views=views,
            test_views=test_views,
        )

    def _loader(
        self,
        clips: pd.DataFrame,
        source: FrameSource,
        *,
        training: bool,
        test_views: Views = ONE_VIEW,
        phase: str = "train",
    ) -> DataLoader[Batch]:
        batches = self.clip_batches(clips, source, training=training, views=self.views, test_views=test_views)
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        order = EpochBatches(
            len(clips),
            batch_size=max(1, self.batch_size // test_views.count),
            shuffle=training,
            seed=self.seed,
            processes=torch.distributed.get_world_size() if several else 1,
            rank=torch.distributed.get_rank() if several else 0,
        )
        if training:
            # A loop that asks for a new loader each epoch goes on from the epoch that the last one has come to.
            order.set_epoch(0 if self._order is None else self._order.epoch)
            self._order = order
        # A trainer that is to overfit a few batches takes the sampler away, and asks for batches by number.
        fixed = self.trainer is not None and self.trainer.overfit_batches > 0
        shown: Dataset[Batch] = batches
        feeding, waits = self.feeding, self.waits[phase]
        clip_bytes = self.frames * 3 * self.size**2
        if self._features is not None:
            ahead = ReadAhead(batches, feeding=feeding, batch_bytes=BLOCK * clip_bytes, waits=waits)
            decoding = Decoding(ahead, waits, partial(self._tell, phase), whole_epochs=not fixed)
            shown = self._features.through(batches, clips, self.catalogue, decoding=decoding)
            feeding = replace(feeding, workers=0)  # a tower stays in the process that trains
        if fixed:
            shown = FixedBatches(shown, order)
        transport = Transport.of(self.feeding, batch_bytes=max(BLOCK, self.batch_size) * clip_bytes)
        self._feeding_note = transport.note
        return clip_loader(shown, None if fixed else order, feeding=feeding, transport=transport, waits=waits)


def _to_nobody(_phase: str, _done: int, _total: int) -> None:
    return None


def _read(dataset: str | dict[str, Any], split: int, root: Path | str | None, annotations: Any) -> Catalogue:
    whole = load_catalogue(dataset, split=split, root=absolute_path(root), annotations=absolute_path(annotations))
    whole.warn(stacklevel=3)
    return whole


def _check(**settings: float | int | None) -> None:
    lowest = {"num_workers": 0, "validation": 0}
    for name, value in settings.items():
        if value is not None and value < lowest.get(name, 1):
            raise MmfuseError(f"{name} must be at least {lowest.get(name, 1)}, not {value}")
    if settings["validation"] is not None and settings["validation"] >= 1:
        raise MmfuseError(f"validation is a share of the training clips, below 1; not {settings['validation']}")


def _stored(store: ClipStore | None, wanted: list[WantedClip]) -> set[str]:
    """Clips that need no video any more."""
    if store is None:
        return set()
    return {want.clip for want in wanted if not Path(want.path).is_file() and store.holds(want)}


def _absent(rows: pd.DataFrame, *, besides: set[str]) -> list[str]:
    """The clips whose file is not there."""
    return [
        clip
        for clip, path in zip(rows["clip"], rows["path"], strict=True)
        if clip not in besides and not Path(path).is_file()
    ]


def _report(missing: dict[str, list[str]], clips: dict[str, pd.DataFrame], catalogue: Catalogue) -> str:
    counts = [f"{len(names):,} of {len(clips[part]):,} {part} clips" for part, names in missing.items() if names]
    names = [name for part in missing.values() for name in part]
    shown = ", ".join(names[:5]) + (f", and {len(names) - 5:,} more" if len(names) > 5 else "")
    if catalogue.root is None:
        hint = "say where the videos are with root (--data-root, --root)"
    elif catalogue.card.splits:
        hint = f"see mmfuse data check {catalogue.name} and mmfuse data get {catalogue.name}"
    else:
        hint = "put them there or take them out of the lists"
    below = f" below {catalogue.root}" if catalogue.root else ""
    return f"{catalogue.card.title}: {' and '.join(counts)} are missing{below} ({shown}); {hint}"
