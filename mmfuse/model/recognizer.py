"""ActionRecognizer: two frozen towers, a method on each, and a fusion, as one LightningModule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mmfuse.encoders import ImageTower, TextTower, load_image_tower, load_text_tower
from mmfuse.errors import MmfuseError
from mmfuse.methods.base import attach
from mmfuse.methods.recipes import FUSION, momentum_of, recipes_of, with_rate
from mmfuse.methods.registry import IMAGE, TEXT, parse_method
from mmfuse.methods.sentences import of_model
from mmfuse.model import checkpoint, lightning_checkpoint, optim
from mmfuse.model.aligned import aligned_fusion, is_aligned
from mmfuse.model.augmentation import Augmentation, generator_of
from mmfuse.model.averaging import AveragedWeights
from mmfuse.model.batches import as_batch, mean_over_views, refuse_floats, with_index
from mmfuse.model.chunked import chunked_loss
from mmfuse.model.class_prompts import ClassPrompts, EmbeddingScopes, check_names, check_templates
from mmfuse.model.frame_features import FEATURES, FrameEncoder, check_kind, feature_of
from mmfuse.model.fusion import Fusion, build_fusion
from mmfuse.model.hub_checkpoint import find_checkpoint
from mmfuse.model.metrics import TestMetrics
from mmfuse.model.optimizations import DEFAULT_OPTIMIZATIONS, Optimizations
from mmfuse.model.rebuilding import OMITTED, constructor_arguments
from mmfuse.model.trained import TrainedWeights, refuse_trainable
from mmfuse.utils.templates import DEFAULT_TEMPLATE

LOOK_EVERY = 20
"""Steps after which the losses are looked at, besides the end of an epoch."""
NO_LABEL = torch.iinfo(torch.int64).min
"""What cross-entropy leaves out; torch's own -100 may be meant for "unlabelled", and is refused as every other."""


class NonFiniteLoss(MmfuseError):
    """The training loss became NaN or infinite."""


class ActionRecognizer(L.LightningModule):
    """Recognises actions with two towers that were trained apart and stay frozen.

    Frames go through the image tower, class prompts through the text tower; a method adapts each, and a fusion joins
    them into one logit a class. The towers' own weights never change.

    Args:
        class_names: C names as words for prompts ("playing the cello").
        image_encoder: an embedded tower, a folder in hub layout, or a hub id; or a loaded tower.
        text_encoder: the same for the text tower.
        image_method: method on the image tower, by name or as `{"method": "lora", "rank": 32}`.
        text_method: method on the text tower.
        fusion: fusion by name or as `{"kind": "joint", "width": 256, "layers": 2}`; "aligned" for towers that were
            trained together, which are then compared as they are (see `mmfuse.model.aligned`).
        templates: prompts with `{}` for the class; several are averaged. A method that learns the prompt's words
            (`coop`) reads "{}." instead.
        prompts: sentences by class name, for every class, which take the place of the templates; any number for each
            class, averaged. A method that learns the prompt's words puts them in front of each sentence.
        frames: T, frames a clip; for a video tower a multiple of its tubelet.
        feature: what of a frame reaches the fusion: "both" (CLS and mean patch, or the mean patch alone of a tower
            without CLS token), "cls", "patch", or "grid" (CLS and 2 × 2 pooled patches).
        method_lr: learning rate of both methods; by default that of each one's family (see `mmfuse.methods.recipes`).
        fusion_lr: learning rate of the fusion; by default the one for all.
        weight_decay: AdamW's, on matrices only, for methods and fusion; by default as the recipes say.
        warmup: share of the steps in which the learning rates rise to their full value, before they fall as a cosine;
            by default as the recipes say.
        label_smoothing: of the cross-entropy.
        augmentation: what is done to training batches, such as `{"mixup": 0.8, "color_jitter": 0.4}`; see
            `mmfuse.model.augmentation`.
        optimizer: "adamw" or "sgd".
        momentum: of SGD; 0.9 where it is not said.
        ema: decay of an exponential moving average of the trained weights, which takes their place when a trainer has
            trained them; 0 for none. See `mmfuse.model.averaging`.
        seed: of the initial weights, and of the augmentation.
        optimizations: which optimisations are on (see `mmfuse.model.optimizations`).

    Shapes: `video`, uint8 (B, T, 3, H, W), to logits (B, C). Batches are dictionaries: `video`; `label`, int64 (B,);
    `index`, int64 (B,), or what else `mmfuse.model.batches.as_batch` takes.

    >>> model = ActionRecognizer(["waving", "jumping", "running"], image_method="lora", text_method="coop").eval()
    >>> video = torch.zeros(2, 8, 3, 64, 64, dtype=torch.uint8)
    >>> model(video).shape
    torch.Size([2, 3])
    >>> model.class_embeddings(["cooking", "dancing"]).shape[0]
    2
    >>> [optimizer, schedule] = model.optimizer_and_schedule(steps=10)
    >>> model.loss((video, torch.tensor([0, 2]))).shape
    torch.Size([])

    Raises:
        MmfuseError: an unknown tower, method, fusion or argument.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        image_encoder: str | ImageTower = "tiny-dinov2",
        text_encoder: str | TextTower = "tiny-clip-text",
        image_method: str | dict[str, Any] = "frozen",
        text_method: str | dict[str, Any] = "frozen",
        fusion: str | dict[str, Any] = "joint",
        templates: Sequence[str] = (DEFAULT_TEMPLATE,),
        prompts: Mapping[str, Sequence[str]] | None = None,
        frames: int = 8,
        feature: str = "both",
        method_lr: float | None = None,
        fusion_lr: float | None = None,
        weight_decay: float | None = None,
        warmup: float | None = None,
        label_smoothing: float = 0.1,
        augmentation: Mapping[str, Any] | None = None,
        optimizer: str = "adamw",
        momentum: float | None = None,
        ema: float = 0.0,
        seed: int = 0,
        optimizations: Optimizations = DEFAULT_OPTIMIZATIONS,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=OMITTED)
        self.arguments = constructor_arguments(self)
        """What the model was called with, in plain values, but for the towers."""
        check_kind(feature)
        generator = torch.Generator().manual_seed(seed)
        self.class_names, templates = check_names(class_names), check_templates(templates)
        sentences = of_model(prompts, self.class_names)
        self.frames, self.feature = frames, feature
        on_image, on_text = parse_method(image_method, IMAGE), parse_method(text_method, TEXT)
        self.method_settings = {"image_method": on_image.resolved, "text_method": on_text.resolved}
        """Both methods with all their arguments."""
        self.recipes = recipes_of(
            on_image,
            on_text,
            method_lr=method_lr,
            fusion_lr=fusion_lr,
            weight_decay=weight_decay,
            warmup=warmup,
        )
        self.momentum = momentum_of(optimizer, momentum)
        """Of SGD; None where AdamW trains."""
        self.label_smoothing = label_smoothing
        self.augmentation = Augmentation(augmentation, classes=len(self.class_names))
        self._seed, self._augmented = seed, 0
        self._averaging = [AveragedWeights(ema)] if ema != 0 else []
        self.image_tower = load_image_tower(image_encoder) if isinstance(image_encoder, str) else image_encoder
        self.text_tower = load_text_tower(text_encoder) if isinstance(text_encoder, str) else text_encoder
        for tower, kind in ((self.image_tower, ImageTower), (self.text_tower, TextTower)):
            if not isinstance(tower, kind):
                raise MmfuseError(f"{tower!r:.80} is no {kind.kind} tower, nor the name of one")
            refuse_trainable(tower)
        self.image_tower.check_frames(frames)
        steps = self.image_tower.steps(frames)
        self.image_method = attach(self.image_tower, on_image, generator=generator)
        self.text_method = attach(self.text_tower, on_text, generator=generator)
        self.prompts = ClassPrompts(
            self.class_names,
            tower=self.text_tower,
            method=self.text_method,
            templates=templates,
            trim=optimizations.trim,
            sentences=sentences,
        )
        self.templates = self.prompts.templates
        self.fusion: Fusion
        if is_aligned(fusion):
            self.fusion = aligned_fusion(
                self.image_tower, self.text_tower, feature=feature, frames=steps, classes=len(self.class_names)
            )
        else:
            self.fusion = build_fusion(
                fusion,
                frame_width=self.image_tower.width * FEATURES[feature_of(self.image_tower, feature)],
                class_width=self.text_tower.embedding_width,
                frames=steps,
                classes=len(self.class_names),
                generator=generator,
            )
        self.optimizations = optimizations
        self.image_tower.checkpointing = optimizations.checkpointing
        self.image_tower.attend_by_products(optimizations.attention)
        self.image_tower.casts_once = self.text_tower.casts_once = optimizations.one_cast
        for method in (self.image_method, self.text_method):
            method.compose(optimizations.compose)
        if optimizations.compile:
            self.image_tower.compile(dynamic=False)
        self._trained = TrainedWeights(
            towers={"image": self.image_tower, "text": self.text_tower},
            methods={"image": self.image_method, "text": self.text_method},
            fusion=self.fusion,
        )
        trained = self.trained_parameters()
        self.trains_image, self.trains_text = bool(trained["image"]), bool(trained["text"])
        """Whether the image method, the text method have anything to train."""
        self.frame_encoder = FrameEncoder(
            self.image_tower,
            kind=feature,
            frames=frames,
            trained=self.trains_image,
            chunked=optimizations.chunks,
            compiled=optimizations.compile,
        )
        self.metrics = TestMetrics(classes=len(self.class_names))
        # Checkpoints hold trained weights only.
        self.register_load_state_dict_pre_hook(lightning_checkpoint.fill_in_frozen)
        self._scopes = EmbeddingScopes()
        self._sum_of_losses: Tensor | float = 0.0
        self.test_predictions: dict[str, Tensor] = {}
        self.sampling: dict[str, Any] | None = None

    # -- what is trained ------------------------------------------------------------------------------------------

    @property
    def hparams_initial(self) -> dict[str, Any]:
        """What loggers write down: the arguments in plain values, the towers by name, and how each part is trained."""
        towers = {"image_encoder": self.image_tower.reloadable_name, "text_encoder": self.text_tower.reloadable_name}
        recipes = {part: asdict(recipe) for part, recipe in self.recipes.items()}
        return {**self.arguments, **towers, "recipes": recipes}

    @property
    def learning_rate(self) -> float:
        """Highest learning rate of the fusion; setting it sets that of every part, as Lightning's `lr_find` does."""
        return self.recipes[FUSION].lr

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self.recipes = with_rate(self.recipes, rate, self.recipes)

    @property
    def fusion_lr(self) -> float:
        """Highest learning rate of the fusion."""
        return self.recipes[FUSION].lr

    @fusion_lr.setter
    def fusion_lr(self, rate: float) -> None:
        self.recipes = with_rate(self.recipes, rate, [FUSION])

    @property
    def method_lr(self) -> float | None:
        """Highest learning rate of the methods; None where nothing is trained in the towers, or at different rates."""
        rates = {recipe.lr for part, recipe in self.recipes.items() if part != FUSION}
        return rates.pop() if len(rates) == 1 else None

    @method_lr.setter
    def method_lr(self, rate: float) -> None:
        self.recipes = with_rate(self.recipes, rate, self.recipes.keys() - {FUSION})

    def trained_parameters(self) -> dict[str, dict[str, nn.Parameter]]:
        """The weights that are trained, by part ("image", "text", "fusion") and by name.

        They are declared when the model is built: what the methods and the fusion own, whether or not it requires
        gradients at the moment.
        """
        return self._trained.parameters(self)

    def trainable_parameters(self) -> dict[str, int]:
        """Numbers of trained weights: `image_method`, `text_method`, `fusion`."""
        counts = {
            part: sum(parameter.numel() for parameter in weights.values())
            for part, weights in self.trained_parameters().items()
        }
        return {"image_method": counts["image"], "text_method": counts["text"], "fusion": counts["fusion"]}

    def frozen_names(self) -> set[str]:
        """Names in the state of all that training leaves alone."""
        return self._trained.frozen_names(self)

    def trained_state(self) -> dict[str, Tensor]:
        """The trained weights by name: all that a run leaves besides its record."""
        return self._trained.state(self)

    def unfreeze(self) -> None:
        """Train again what the methods and the fusion own, after `freeze`; the towers stay frozen."""
        for weights in self.trained_parameters().values():
            for parameter in weights.values():
                parameter.requires_grad_(True)
        self.train()

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each tower's pretrained weights."""
        return {
            "image": self.image_tower.weights_fingerprint(),
            "text": self.text_tower.weights_fingerprint(),
        }

    def save_trained(self, folder: str | Path, *, sampling: dict[str, Any] | None = None) -> None:
        """Write a small checkpoint: the trained weights, and all that `from_checkpoint` needs besides the towers.

        Args:
            folder: where; made if it is not there. See `mmfuse.model.checkpoint` for what it holds.
            sampling: how frames were taken from videos (size and so on), kept for those who predict later; by default
                as the data module said that it was fitted on.
        """
        self.unmerge()
        checkpoint.save(self, Path(folder), sampling=self.sampling if sampling is None else sampling)

    @classmethod
    def from_checkpoint(
        cls,
        folder: str | Path,
        *,
        revision: str | None = None,
        image_encoder: str | ImageTower | None = None,
        text_encoder: str | TextTower | None = None,
    ) -> ActionRecognizer:
        """Rebuild a recogniser from what `save_trained` left, in evaluation mode.

        Args:
            folder: the checkpoint, or owner/name of a model of the hub that `mmfuse push` wrote.
            revision: branch, tag or commit of a model of the hub.
            image_encoder, text_encoder: a tower, where it is not to be found under the name it had then.

        Raises:
            MmfuseError: no or a broken checkpoint, a tower that is not found, or one with other weights.
        """
        towers = {"image_encoder": image_encoder, "text_encoder": text_encoder}
        return checkpoint.load(cls, find_checkpoint(folder, revision=revision), towers=towers)

    # -- forward --------------------------------------------------------------------------------------------------

    def class_embeddings(
        self, class_names: Sequence[str] | None = None, *, prompts: Mapping[str, Sequence[str]] | None = None
    ) -> Tensor:
        """Embeddings of the class prompts, (C, E): the mean of unit vectors, over templates or over sentences.

        Args:
            class_names: other classes than those trained on.
            prompts: sentences of some of them, in the place of the templates.

        Raises:
            MmfuseError: names that no prompts can be made of, or that prompts could not tell apart.
        """
        return self.prompts.embed(device=self.device, names=class_names, sentences=prompts)

    def frame_features(self, video: Tensor, *, normalised: bool = False) -> Tensor:
        """Clips to frame features.

        Args:
            video: pixels, uint8 (B, T, 3, H, W).
            normalised: the pixels are floats, and normalised as the image tower wants them.

        Returns:
            (B, T, F); T is the steps of time in a video tower.

        Raises:
            MmfuseError: pixels in floats, clips of another number of frames, or of a size that patches do not divide.
        """
        if not normalised:
            refuse_floats(video)
        return self.frame_encoder(video)

    def forward(self, video: Tensor, classes: Tensor | None = None) -> Tensor:
        """Clips to logits.

        Args:
            video: pixels, uint8 (B, T, 3, H, W).
            classes: class embeddings, (C, E), from `class_embeddings`; by default those of the classes trained on,
                computed anew. A loop that changes no weights may compute them once and give them here.

        Returns:
            Logits, (B, C).

        Raises:
            MmfuseError: see `frame_features`.
        """
        return self.fusion(self.frame_features(video), self.class_embeddings() if classes is None else classes)

    def _logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits (B, C) of a batch of clips, or of what the frozen prefix gave of them."""
        if "features" in batch:
            return self.fusion(self.frame_encoder.after_prefix(batch["features"]), self._classes())
        return self(batch["video"], self._classes())

    def loss(self, batch: Any) -> Tensor:
        """The loss () of a batch, cross-entropy; a large batch on a CPU goes through the towers in chunks.

        In training mode the batch is augmented first, where the model was built so.

        Args:
            batch: see `mmfuse.model.batches.as_batch`.

        Raises:
            MmfuseError: the batch has another form, or no labels.
        """
        if self.training:
            self._augmented += 1
        return self._loss_and_hits(self._as_labelled_batch(batch), place=(1, self._augmented))[0]

    def _as_labelled_batch(self, batch: Any) -> dict[str, Tensor]:
        """A batch as a dictionary, with a label for each clip."""
        return as_batch(batch, classes=len(self.class_names))

    def _loss_and_hits(self, batch: dict[str, Tensor], *, place: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The loss () and which clips were recognised (B,): of mixed ones, as the class that has the largest share.

        Args:
            batch: clips and labels.
            place: of the batch among all of the training, which its augmentation is drawn for.
        """
        batch = self._augment(batch, place) if self.training and self.augmentation.on else batch
        kept = "features" in batch
        clips = batch["features" if kept else "video"]
        features_of = self.frame_encoder.after_prefix if kept else self.frame_features
        hits: list[Tensor] = []

        def loss_of(chunk: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
            logits = self.fusion(features_of(chunk), classes)
            hits.append(logits.detach().argmax(dim=-1) == (labels if labels.ndim == 1 else labels.argmax(dim=-1)))
            return len(chunk) / len(clips) * self._cross_entropy(logits, labels)

        # Weights of the text side get their gradients through the class embeddings.
        weights = (p for p in self.parameters() if p.requires_grad)
        size = self.frame_encoder.chunk_size(clips)
        loss = chunked_loss(loss_of, clips, batch["label"], self._classes(), weights, size)
        return loss, torch.cat(hits)

    def _augment(self, batch: dict[str, Tensor], place: tuple[int, ...]) -> dict[str, Tensor]:
        """A training batch, augmented; with soft labels (B, C) where clips were mixed."""
        if "features" in batch:
            names = ", ".join(self.augmentation.settings)
            raise MmfuseError(f"kept features cannot be augmented ({names}); give batches of video, or turn that off")
        generator = generator_of(self._seed, *place)
        video, labels = self.augmentation(batch["video"], batch["label"], generator=generator)
        return {**batch, "video": video, "label": labels}

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of labels (B,), or of the classes' shares (B, C); both are smoothed alike."""
        return functional.cross_entropy(logits, labels, ignore_index=NO_LABEL, label_smoothing=self.label_smoothing)

    def _classes(self) -> Tensor:
        """Class embeddings of this step: computed anew, but where a trainer runs a loop in which they cannot change."""
        # A subclass may have given the embeddings something to train that is not in the tower.
        lasting = not self.trains_text and type(self).class_embeddings is ActionRecognizer.class_embeddings
        scope = self._scopes.training if lasting and self._scopes.training.is_open else self._scopes.evaluation
        running = self._trainer is not None and self._trainer.state.status == TrainerStatus.RUNNING
        if not running or not scope.is_open or (torch.is_grad_enabled() and not lasting):
            return self.class_embeddings()
        kind = self.device.type
        weight = next(self.text_tower.parameters())
        key = (weight.device, weight.dtype, self.text_tower.enabled, _autocast_dtype(kind))
        return scope.get(self.class_embeddings, key=key)

    # -- Lightning ------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Train in training mode, whatever mode the model was left in; the towers stay in evaluation mode."""
        self.unmerge()  # what a test that was broken off left merged
        self.train()
        self._sum_of_losses = 0.0
        self.sampling = getattr(getattr(self.trainer, "datamodule", None), "sampling", self.sampling)

    def configure_callbacks(self) -> list[L.Callback]:
        """What says in which loops class embeddings cannot change, without which they are computed for every batch.

        And what averages the trained weights, where the model was built so.
        """
        return [self._scopes, *self._averaging]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check the range of labels while they are on the CPU; on a GPU each step would wait for the answer."""
        if not self.trainer.predicting and self.device.type != "cpu":
            self._as_labelled_batch(batch)
        return batch

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Cross-entropy of one batch, logged as `train/loss`, and `train/top1` over the epoch."""
        given = self._as_labelled_batch(batch)
        loss, hits = self._loss_and_hits(given, place=(0, self.current_epoch, batch_index, self.global_rank))
        self._sum_of_losses = loss.detach() + self._sum_of_losses
        if batch_index % LOOK_EVERY == LOOK_EVERY - 1:
            self._refuse_non_finite_losses()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(hits))
        self.log("train/top1", hits.float().mean(), on_step=False, on_epoch=True, batch_size=len(hits))
        return loss

    def on_train_epoch_end(self) -> None:
        """Refuse a loss of the last steps that was not finite."""
        self._refuse_non_finite_losses()

    def _refuse_non_finite_losses(self) -> None:
        """Look at the losses since the last look, all at once: a GPU that is asked at each step waits at each step.

        A sum is not finite from the first loss on that is not.
        """
        total, self._sum_of_losses = float(self._sum_of_losses), 0.0
        if not math.isfinite(total):
            raise NonFiniteLoss(f"the loss became {total} in epoch {self.current_epoch}; lower the learning rates")

    def validation_step(self, batch: Any, batch_index: int, dataloader_idx: int = 0) -> None:
        """Log `val/loss` and `val/top1` on clips held out of the training list; nothing is selected by them."""
        given = self._as_labelled_batch(batch)
        logits, labels = self._logits(given), given["label"]
        found = {"loss": self._cross_entropy(logits, labels), "top1": (logits.argmax(dim=-1) == labels).float().mean()}
        for name, value in found.items():
            self.log(f"val/{name}", value, batch_size=len(labels), prog_bar=True, sync_dist=True)

    def on_test_start(self) -> None:
        """Forget what an earlier test has seen, and merge what can be merged into the towers' weights.

        The weights are kept in full precision, so that under autocast only their sum is rounded, as the frozen weight
        would have been. Not where the weights themselves are in half precision: there a small change would be lost.
        """
        self.metrics.reset()
        self.on_predict_start()

    def on_predict_start(self) -> None:
        """See `on_test_start`."""
        if self.optimizations.merge and self.trainer.precision not in {"16-true", "bf16-true"}:
            for method in (self.image_method, self.text_method):
                method.merge()

    def on_test_end(self) -> None:
        """Give the towers their own weights back."""
        self.unmerge()

    on_predict_end = on_test_end

    def unmerge(self) -> None:
        """Give the towers their own weights back, where methods are merged into them."""
        for method in (self.image_method, self.text_method):
            method.unmerge()

    def test_step(self, batch: Any, batch_index: int, dataloader_idx: int = 0) -> None:
        """Collect the predictions of one batch."""
        given = self._as_labelled_batch(batch)
        processes, rank = self.trainer.world_size, self.trainer.global_rank
        index = with_index(given, seen=self.metrics.clips, rank=rank, processes=processes)
        self.metrics.update(self._probabilities(given), given["label"], index)

    def predict_step(self, batch: Any, batch_index: int, dataloader_idx: int = 0) -> Tensor:
        """Probabilities of the classes, (B, C), of a batch with or without labels."""
        return self._probabilities(as_batch(batch, classes=None))

    def _probabilities(self, batch: dict[str, Tensor]) -> Tensor:
        """Probabilities (B, C); of clips in several views, the mean over them."""
        kind, one_view = ("features", 3) if "features" in batch else ("video", 5)

        def of_views(clips: Tensor) -> Tensor:
            return self._logits({kind: clips}).float().softmax(dim=-1)

        clips = batch[kind]
        return of_views(clips) if clips.ndim <= one_view else mean_over_views(of_views, clips)

    def on_test_epoch_end(self) -> None:
        """Log top-1, top-5 and mean-class accuracy, and keep the predictions of each clip."""
        self.log_dict({f"test/{name}": value for name, value in self.metrics.compute().items()})
        self.test_predictions = self.metrics.predictions()
        self.metrics.reset()  # also at the end, for subclasses with an `on_test_start` of their own

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW or SGD with warm-up and cosine, each part by its own recipe (see `mmfuse.model.optim`).

        Raises:
            MmfuseError: a frozen weight requires gradients, or there is no trainer to say how long it trains.
        """
        if self._trainer is None:
            raise MmfuseError(
                "without a trainer nobody knows how many steps there will be; say it: "
                "model.optimizer_and_schedule(steps=...)"
            )
        self._trained.refuse_undeclared(self)
        return optim.optimizer_for_trainer(
            self.trained_parameters(), self.recipes, self._trainer, device=self.device, momentum=self.momentum
        )

    def optimizer_and_schedule(self, *, steps: int, fused: bool | None = None) -> tuple[Optimizer, LambdaLR]:
        """The optimiser and the schedule that a trainer uses, for a training loop of your own; nothing is averaged.

        Args:
            steps: of the optimiser, in the whole training; the schedule is stepped after each.
            fused: update all weights in one kernel; by default where that works.

        Raises:
            MmfuseError: a frozen weight requires gradients, or there is no step.
        """
        if steps < 1:
            raise MmfuseError(f"a training has at least one step; got steps={steps}")
        self._trained.refuse_undeclared(self)
        fused = self.device.type in ("cpu", "cuda") if fused is None else fused
        trained, momentum = self.trained_parameters(), self.momentum
        optimizer = optim.build_optimizer(trained, self.recipes, fused=fused, momentum=momentum)
        return optimizer, optim.build_schedule(optimizer, self.recipes, span=optim.Span(steps))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep Lightning's checkpoints small: trained weights, and by name the towers that they belong to."""
        lightning_checkpoint.complete(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load all of a checkpoint or nothing.

        Raises:
            MmfuseError: it is one of other methods, another fusion or other towers.
        """
        lightning_checkpoint.refuse_foreign(self, checkpoint)


def _autocast_dtype(kind: str) -> torch.dtype | None:
    """What autocast computes in on a kind of device, None where it is off."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
