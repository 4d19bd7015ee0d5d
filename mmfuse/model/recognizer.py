"""ActionRecognizer: two frozen towers, a method on each, and a fusion, as one LightningModule."""

from __future__ import annotations

import inspect
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfuse.encoders import ImageTower, TextTower, load_image_tower, load_text_tower
from mmfuse.encoders.tower import Prompts
from mmfuse.errors import MmfuseError, unknown
from mmfuse.methods.base import attach
from mmfuse.methods.recipes import Recipe, recipes_of
from mmfuse.model import checkpoint
from mmfuse.model.chunked import clips_at_once, joined, summed
from mmfuse.model.frame_features import FEATURES, frame_features
from mmfuse.model.fusion import build_fusion
from mmfuse.model.metrics import TestMetrics
from mmfuse.model.optimizations import USUAL, Speed

if TYPE_CHECKING:
    from mmfuse.inference.predict import Prediction

DEFAULT_TEMPLATE = "a video of a person {}."


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
        fusion: fusion by name or as `{"kind": "joint", "width": 256, "layers": 2}`.
        templates: prompts with `{}` for the class; several are averaged. A method that learns the prompt's words
            (`coop`) reads "{}." instead.
        frames: T, frames a clip.
        feature: what of a frame reaches the fusion: "both" (CLS and mean patch), "cls", "patch", or "grid" (CLS and
            2 × 2 pooled patches).
        method_lr: learning rate of both methods; by default that of each one's family (see `mmfuse.methods.recipes`).
        fusion_lr: learning rate of the fusion; by default the one for all.
        weight_decay: AdamW's, on matrices only, for methods and fusion; by default as the recipes say.
        warmup: share of the steps in which the learning rates rise to their full value, before they fall as a cosine;
            by default as the recipes say.
        label_smoothing: of the cross-entropy.
        seed: of the initial weights.
        speed: which optimisations are on (see `mmfuse.model.optimizations`).

    Batches are dictionaries with `video`, uint8 (B, T, 3, H, W); `label`, int64 (B,); `index`, int64 (B,).

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
        frames: int = 8,
        feature: str = "both",
        method_lr: float | None = None,
        fusion_lr: float | None = None,
        weight_decay: float | None = None,
        warmup: float | None = None,
        label_smoothing: float = 0.1,
        seed: int = 0,
        speed: Speed = USUAL,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=("image_encoder", "text_encoder", "speed"), logger=False)
        _check_prompts(class_names, templates)
        if feature not in FEATURES:
            raise unknown("frame feature", feature, FEATURES)
        generator = torch.Generator().manual_seed(seed)
        self.class_names = list(class_names)
        self.frames, self.feature = frames, feature
        self.recipes = recipes_of(
            image_method,
            text_method,
            method_lr=method_lr,
            fusion_lr=fusion_lr,
            weight_decay=weight_decay,
            warmup=warmup,
        )
        self.label_smoothing = label_smoothing
        self.image_tower = load_image_tower(image_encoder) if isinstance(image_encoder, str) else image_encoder
        self.text_tower = load_text_tower(text_encoder) if isinstance(text_encoder, str) else text_encoder
        for tower, kind in ((self.image_tower, ImageTower), (self.text_tower, TextTower)):
            if not isinstance(tower, kind):
                raise MmfuseError(f"{tower!r:.80} is no {kind.kind} tower, nor the name of one")
        self.image_method = attach(self.image_tower, image_method, generator=generator)
        self.text_method = attach(self.text_tower, text_method, generator=generator)
        self.templates = ["{}."] if self.text_method.replaces_template else list(templates)
        self.fusion = build_fusion(
            fusion,
            frame_width=self.frame_width,
            class_width=self.text_tower.embedding_width,
            frames=frames,
            classes=len(self.class_names),
            generator=generator,
        )
        self.speed = speed
        self.image_tower.checkpointing = speed.checkpointing
        self.image_tower.attend_by_products(speed.attention)
        for method in (self.image_method, self.text_method):
            method.compose(speed.compose)
        if speed.compile:
            self.image_tower.compile(dynamic=False)
        # Found once: it takes a walk over the whole tower, and every batch of what was kept asks for it.
        self.kept_below = self.image_tower.untouched_layers if self.trains_image else None
        """The first adapted layer of the image tower, below which nothing is trained; None where nothing is at all."""
        self.metrics = TestMetrics(classes=len(self.class_names))
        self.strict_loading = False  # checkpoints hold trained weights only
        self._prompts = self._tokenize(self.class_names)
        self._kept_classes: tuple[Any, Tensor] | None = None
        self.test_predictions: dict[str, Tensor] = {}
        self.sampling: dict[str, Any] | None = None

    # -- what is trained ------------------------------------------------------------------------------------------

    @property
    def trains_image(self) -> bool:
        """Whether the image side has anything to train."""
        return any(parameter.requires_grad for parameter in self._side("image"))

    @property
    def frame_width(self) -> int:
        """F, the width of a frame feature."""
        return self.image_tower.width * FEATURES[self.feature]

    @property
    def trains_text(self) -> bool:
        """Whether the text side has anything to train."""
        return any(parameter.requires_grad for parameter in self._side("text"))

    def _side(self, side: str) -> Iterable[nn.Parameter]:
        tower, method = (
            (self.image_tower, self.image_method) if side == "image" else (self.text_tower, self.text_method)
        )
        yield from tower.parameters()
        yield from method.parameters()

    def trainable_parameters(self) -> dict[str, int]:
        """Numbers of trained weights: `image_method`, `text_method`, `fusion`."""

        def count(parameters: Iterable[nn.Parameter]) -> int:
            return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)

        return {
            "image_method": count(self._side("image")),
            "text_method": count(self._side("text")),
            "fusion": count(self.fusion.parameters()),
        }

    def trained_state(self) -> dict[str, Tensor]:
        """The trained weights by name: all that a run leaves besides its record."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

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
        towers = {"image": self.image_tower, "text": self.text_tower}
        prints = self.fingerprints()
        checkpoint.write(
            Path(folder),
            weights=self.trained_state(),
            towers={side: {"name": tower.lasting_name, "fingerprint": prints[side]} for side, tower in towers.items()},
            arguments=dict(self.hparams),
            sampling=self.sampling if sampling is None else sampling,
        )
        for side, method in (("image", self.image_method), ("text", self.text_method)):
            besides = Path(folder) / f"peft-{side}"
            shutil.rmtree(besides, ignore_errors=True)  # of an earlier checkpoint in the same folder
            method.save_besides(besides)

    @classmethod
    def from_checkpoint(
        cls,
        folder: str | Path,
        *,
        image_encoder: str | ImageTower | None = None,
        text_encoder: str | TextTower | None = None,
    ) -> ActionRecognizer:
        """Rebuild a recogniser from what `save_trained` left, in evaluation mode.

        Args:
            folder: the checkpoint.
            image_encoder: the image tower, where it is not to be found under the name it had then.
            text_encoder: the same for the text tower.

        Raises:
            MmfuseError: no or a broken checkpoint, a tower that is not found, or one with other weights.
        """
        folder = Path(folder)
        description = checkpoint.read_description(folder, accepted=inspect.signature(cls).parameters)
        checkpoint.refuse_oversized(folder, description)
        towers = description["towers"]
        with checkpoint.building(folder):
            model = cls(
                **description["arguments"],
                image_encoder=image_encoder or towers["image"]["name"],
                text_encoder=text_encoder or towers["text"]["name"],
            )
        checkpoint.refuse_other_towers(towers, model.fingerprints(), folder=folder)
        checkpoint.put(checkpoint.read_weights(folder), model.trained_state(), folder=folder)
        model.sampling = description["sampling"]
        return model.eval()

    def predict(
        self, paths: str | Path | Iterable[str | Path], *, classes: Sequence[str] | None = None, batch_size: int = 8
    ) -> list[Prediction]:
        """Name the action in videos: files, or folders of them.

        See `mmfuse.inference.predict.predict`, which this calls: what is returned, and what `classes` means.
        """
        from mmfuse.inference.predict import predict

        return predict(self, paths, classes=classes, batch_size=batch_size)

    # -- forward --------------------------------------------------------------------------------------------------

    def _tokenize(self, names: Sequence[str]) -> list[Prompts]:
        room = self.text_method.room
        texts = [[template.format(name) for name in names] for template in self.templates]
        return [self.text_tower.tokenize(prompts, room=room, trim=self.speed.trim) for prompts in texts]

    def class_embeddings(self, class_names: Sequence[str] | None = None) -> Tensor:
        """Embeddings of the class prompts, (C, E): the mean over the templates of unit vectors.

        Args:
            class_names: other classes than those trained on.

        Raises:
            MmfuseError: names that no prompts can be made of, or that prompts could not tell apart.
        """
        prompts = self._prompts
        if class_names is not None:
            _check_prompts(class_names, self.templates)
            prompts = self._tokenize(class_names)
        embedded = [functional.normalize(self.text_tower(part.to(self.device)), dim=-1) for part in prompts]
        return torch.stack(embedded).mean(dim=0)

    def frame_features(self, video: Tensor) -> Tensor:
        """Clips (B, T, 3, H, W) to frame features (B, T, F)."""
        if video.shape[1] != self.frames:
            raise MmfuseError(
                f"clips of {video.shape[1]} frames given to a recogniser that was built for {self.frames}"
            )
        rows = video.shape[-2] // self.image_tower.patch_size

        def run(video: Tensor) -> Tensor:
            return frame_features(self.image_tower(video), kind=self.feature, rows=rows)

        return joined(run, video, self._at_once(video))

    def unchanging_width(self, size: int) -> int:
        """Numbers that `unchanging` gives of a frame of `size` pixels a side."""
        if self.kept_below is None:
            return self.frame_width
        return self._tokens(size, size) * self.image_tower.width

    def _tokens(self, height: int, width: int) -> int:
        """Tokens of a frame, before a method adds any."""
        side = self.image_tower.patch_size
        return self.image_tower.special_tokens + (height // side) * (width // side)

    def _at_once(self, clips: Tensor) -> int | None:
        """How many of these clips, pixels or kept tokens, the image tower is given at once; None for all."""
        tower = self.image_tower
        kept = clips.ndim == 3
        if not self.speed.portions or (kept and self.kept_below is None):
            return None
        tokens = clips.shape[2] // tower.width if kept else self._tokens(*clips.shape[-2:])
        return clips_at_once(
            clips.device,
            numbers=clips.shape[1] * tokens * tower.widest,
            pixels=0 if kept else clips[0].numel(),
            dtype=tower.pretrained[0].dtype,
        )

    def unchanging(self, video: Tensor) -> Tensor:
        """What training never changes of clips (B, T, 3, S, S): it can be kept and given back as a batch's "features".

        Returns:
            Frame features (B, T, F) where the image tower is frozen; else the tokens before the first adapted layer,
            those of a frame in one row, (B, T, S·D).
        """
        if self.kept_below is None:
            return self.frame_features(video)
        lower = partial(self.image_tower.lower, layer=self.kept_below)
        return joined(lower, video, self._at_once(video)).flatten(2)

    def _from_unchanging(self, kept: Tensor) -> Tensor:
        """Frame features (B, T, F) from what `unchanging` gave."""
        if self.kept_below is None:
            return kept
        tower, layer = self.image_tower, self.kept_below

        def run(kept: Tensor) -> Tensor:
            tokens = tower.upper(kept.unflatten(2, (-1, tower.width)), layer=layer)
            return frame_features(tokens, kind=self.feature, rows=math.isqrt(tokens.shape[2] - 1))

        return joined(run, kept, self._at_once(kept))

    def forward(self, video: Tensor) -> Tensor:
        """Clips, uint8 (B, T, 3, H, W), to logits (B, C)."""
        return self.fusion(self.frame_features(video), self._classes())

    def _logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits (B, C) of a batch of clips, or of what was kept of them (see `unchanging`)."""
        if "features" in batch:
            return self.fusion(self._from_unchanging(batch["features"]), self._classes())
        return self(batch["video"])

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of a batch as `_logits` takes it; a large one on a CPU goes through the towers in portions."""
        kept = "features" in batch
        clips = batch["features" if kept else "video"]
        features_of = self._from_unchanging if kept else self.frame_features

        def loss_of(portion: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
            logits = self.fusion(features_of(portion), classes)
            share = len(portion) / len(clips)
            return share * functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

        # Weights of the text side get their gradients through the class embeddings.
        weights = (p for p in self.parameters() if p.requires_grad)
        return summed(loss_of, clips, batch["label"], self._classes(), weights, self._at_once(clips))

    def _classes(self) -> Tensor:
        """Class embeddings: at every step while they are trained, else once for as long as nothing changes them."""
        if torch.is_grad_enabled() and self.trains_text:
            return self.class_embeddings()
        state = (self.device, *((p.data_ptr(), p._version) for p in self._side("text") if p.requires_grad))
        if self._kept_classes is None or self._kept_classes[0] != state:
            with torch.no_grad():
                self._kept_classes = (state, self.class_embeddings())
        return self._kept_classes[1]

    # -- Lightning ------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Train in training mode, whatever mode the model was left in; the towers stay in evaluation mode."""
        self.unmerge()  # what a test that was broken off left folded in
        self.train()
        self.sampling = getattr(getattr(self.trainer, "datamodule", None), "sampling", self.sampling)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Cross-entropy of one batch."""
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise NonFiniteLoss(
                f"the loss became {loss.item()} in epoch {self.current_epoch}; lower the learning rates"
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["label"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Top-1 accuracy on clips held out of the training list, logged as `val/top1`; nothing is selected by it."""
        hits = (self._logits(batch).argmax(dim=-1) == batch["label"]).float()
        self.log("val/top1", hits.mean(), batch_size=len(hits), prog_bar=True)

    def on_test_start(self) -> None:
        """Forget what an earlier test has seen, and fold what can be folded into the towers' weights.

        The weights are kept in full precision, so that under autocast only their sum is rounded, as the frozen weight
        would have been. Not where the weights themselves are in half precision: there a small change would be lost.
        """
        self.metrics.reset()
        if self.speed.merge and self.trainer.precision not in {"16-true", "bf16-true"}:
            for method in (self.image_method, self.text_method):
                method.merge()

    def on_test_end(self) -> None:
        """Give the towers their own weights back."""
        self.unmerge()

    def unmerge(self) -> None:
        """Give the towers their own weights back, where methods are folded into them."""
        for method in (self.image_method, self.text_method):
            method.unmerge()

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Collect the predictions of one batch."""
        probabilities = self._logits(batch).float().softmax(dim=-1)
        self.metrics.update(probabilities, batch["label"], batch["index"])

    def on_test_epoch_end(self) -> None:
        """Log top-1, top-5 and mean-class accuracy, and keep the predictions of each clip."""
        self.log_dict({f"test/{name}": value for name, value in self.metrics.compute().items()})
        self.test_predictions = self.metrics.predictions()

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with warm-up and cosine by step, each part by its own recipe.

        No decay on norms, biases, prompts and other vectors.
        """
        groups = self._parameter_groups()
        # One kernel for all weights where there is one. In mixed precision Lightning cannot clip gradients beside it.
        clipped = bool(self.trainer.gradient_clip_val) and "mixed" in str(self.trainer.precision)
        fused = self.device.type in ("cpu", "cuda") and not clipped
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=fused)
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        factors: list[Callable[[int], float]] = [
            partial(_rate_factor, steps=steps, recipe=self.recipes[group["part"]]) for group in groups
        ]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """The trained weights by part ("image", "text" or "fusion"), apart by whether they decay."""
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                part = name.split(".")[0].split("_")[0]  # image_tower, image_method, text_tower, text_method, fusion
                groups.setdefault((part, _decays(name, parameter)), []).append(parameter)
        return [
            {
                "params": parameters,
                "part": part,
                "lr": self.recipes[part].lr,
                "weight_decay": self.recipes[part].weight_decay if decays else 0.0,
            }
            for (part, decays), parameters in groups.items()
        ]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep Lightning's checkpoints small: trained weights only."""
        checkpoint["state_dict"] = self.trained_state()


NOT_DECAYED = (
    "prompts",
    "context",
    "time",
    "modality",
    "pooling",
    "video",
    "position_embedding",
    "position_embeddings",
)


def _rate_factor(step: int, *, steps: int, recipe: Recipe) -> float:
    """What the learning rate is multiplied by at a step, counted from 0, of `steps`."""
    rising = max(round(recipe.warmup * steps), 1)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


def _decays(name: str, parameter: nn.Parameter) -> bool:
    # Factors that a library keeps as a matrix of one row or column are vectors all the same; decay would pull factors
    # that start at one towards zero.
    return parameter.squeeze().ndim >= 2 and not any(word in NOT_DECAYED for word in name.split("."))


def _check_prompts(class_names: Sequence[str], templates: Sequence[str]) -> None:
    """Refuse names and templates of which no prompts can be made that tell the classes apart."""
    for what, given in (("class_names", class_names), ("templates", templates)):
        if isinstance(given, str) or not all(isinstance(text, str) and text.strip() for text in given):
            raise MmfuseError(f"{what} must be a list of texts, none of them empty; got {given!r:.80}")
    if len(class_names) < 2:
        raise MmfuseError(f"at least two classes are needed to tell apart; got {len(class_names)}")
    twice = [name for name in class_names if list(class_names).count(name) > 1]
    if twice:
        raise MmfuseError(f"the class name {twice[0]!r} is given twice; no prompt could tell the two apart")
    if not templates:
        raise MmfuseError("at least one template is needed, such as 'a video of a person {}.'")
    for template in templates:
        if template.count("{}") != 1 or {"{", "}"} & set(template.replace("{}", "", 1)):
            raise MmfuseError(f"a template has one {{}} for the class name, and no other braces; got {template!r}")
