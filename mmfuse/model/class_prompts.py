"""The classes in words: prompts, their embeddings, and for how long an embedding may be used again.

Shapes: C classes, E width of a class embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional

from mmfuse.encoders import TextTower
from mmfuse.encoders.text import Prompts
from mmfuse.errors import MmfuseError
from mmfuse.methods.base import Method
from mmfuse.utils.templates import DEFAULT_TEMPLATE


class ClassPrompts:
    """Prompts of the classes, tokenised once, and the text tower's embeddings of them.

    Args:
        names: C names as words for prompts ("playing the cello").
        tower: the text tower, with its method attached.
        method: the method, which may replace the template and reserve tokens.
        templates: prompts with `{}` for the class; several are averaged.
        trim: pad to the longest prompt only, where that changes nothing.
        sentences: of some classes by name, which take the place of the templates there; several are averaged, and need
            not be as many for each class.

    Raises:
        MmfuseError: names or templates that no prompts can be made of, or a prompt that does not fit.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        tower: TextTower,
        method: Method,
        templates: Sequence[str],
        trim: bool,
        sentences: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.names = check_names(names)
        self.templates = ["{}."] if method.replaces_template else check_templates(templates)
        self._sentences = sentences or {}
        self._tower, self._reserved, self._trim = tower, method.reserved_tokens, trim
        self._prompts, self._rows = self._tokenize(self.names, self._sentences)

    def _tokenize(
        self, names: Sequence[str], sentences: Mapping[str, Sequence[str]]
    ) -> tuple[list[Prompts], list[Tensor]]:
        """First the first text of each class, then the second of those that have one, and so on; with their classes."""
        texts = [sentences.get(name) or [template.format(name) for template in self.templates] for name in names]
        prompts, rows = [], []
        for number in range(max(map(len, texts))):
            having = [row for row, own in enumerate(texts) if number < len(own)]
            told = [texts[row][number] for row in having]
            prompts.append(self._tower.tokenize(told, reserved_tokens=self._reserved, trim=self._trim))
            rows.append(torch.tensor(having))
        return prompts, rows

    @property
    def length(self) -> int:
        """Tokens of the longest prompt as it is padded, before a method inserts any."""
        return max(part.ids.shape[1] for part in self._prompts)

    def embed(
        self,
        *,
        device: torch.device,
        names: Sequence[str] | None = None,
        sentences: Mapping[str, Sequence[str]] | None = None,
    ) -> Tensor:
        """Embeddings (C, E): the mean of unit vectors, over the templates or over the sentences of a class.

        Args:
            device: where the tower is.
            names: other classes than those it was made for.
            sentences: of some of these, besides those that are known.

        Raises:
            MmfuseError: names that no prompts can be made of, or that prompts could not tell apart.
        """
        if names is None:
            prompts = self._prompts = [part.to(device) for part in self._prompts]  # they stay where they are used
            rows = self._rows
        else:
            prompts, rows = self._tokenize(check_names(names), {**self._sentences, **(sentences or {})})
            prompts = [part.to(device) for part in prompts]
        embedded = [functional.normalize(self._tower(part), dim=-1) for part in prompts]
        if len(rows[-1]) == len(rows[0]):
            return torch.stack(embedded).mean(dim=0)
        rows = [part.to(device) for part in rows]
        if names is None:
            self._rows = rows
        total, counts = torch.zeros_like(embedded[0]), torch.zeros_like(embedded[0][:, :1])
        for part, having in zip(embedded, rows, strict=True):
            total = total.index_add(0, having, part)
            counts = counts.index_add(0, having, torch.ones_like(part[:, :1]))
        return total / counts


class EmbeddingScope:
    """A stretch of a loop in which class embeddings cannot change, so that they are computed once.

    There is no way to see from the outside that a weight has changed: writes through `.data`, as averaging callbacks
    do, and the fused optimisers of torch leave `_version` as it was. So nothing is kept by identity. A scope is opened
    where a loop begins that changes no weight, and closed where it ends; outside of one, everything is computed anew.

    Args:
        untrained: a training goes on within the stretch, so that only what no gradient enters may be kept.
    """

    def __init__(self, *, untrained: bool = False) -> None:
        self.is_open = False
        self._untrained = untrained
        self._kept: tuple[Hashable, Tensor] | None = None

    def open(self) -> None:
        """Begin a stretch; what an earlier one has left is dropped."""
        self.is_open, self._kept = True, None

    def close(self) -> None:
        """End it, and drop what it has kept."""
        self.is_open, self._kept = False, None

    def get(self, compute: Callable[[], Tensor], *, key: Hashable) -> Tensor:
        """What `compute` gives; within a stretch it is asked once for each `key`, and no gradients are taken."""
        if not self.is_open:
            return compute()
        if self._kept is None or self._kept[0] != key:
            # A loop may run in inference mode, whose tensors could not take part in a training step.
            with torch.inference_mode(False), torch.set_grad_enabled(self._untrained):
                found = compute()
            if found.requires_grad:
                return found if torch.is_grad_enabled() else found.detach()
            self._kept = (key, found)
        return self._kept[1]


class EmbeddingScopes(L.Callback):
    """Opens and closes the scopes of a model around the loops of its trainer.

    A callback and not hooks of the model: a subclass that overrides some hooks without calling those of its base would
    leave a scope open, and what it has kept would be taken for that of a later loop.

    Attributes:
        training: open for a training, for what training leaves alone.
        evaluation: open for an epoch of validation, test or prediction.
    """

    def __init__(self) -> None:
        self.training, self.evaluation = EmbeddingScope(untrained=True), EmbeddingScope()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """A loop begins: nothing is left of an earlier one, however that ended."""
        self.training.close()
        self.evaluation.close()
        _hold(pl_module, False)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """See `setup`."""
        self.setup(trainer, pl_module, stage)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """See `setup`."""
        self.setup(trainer, pl_module, "")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A frozen text tower's embeddings stay what they are until the end of the training."""
        self.training.open()

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Class embeddings stay what they are until the end of the epoch.

        They are computed at its first batch, when callbacks and the model's own hooks have had their turn.
        """
        self.evaluation.open()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See `on_validation_epoch_start`."""
        self.evaluation.close()
        _hold(pl_module, False)

    def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any) -> None:
        """From the second batch on, merged weights need not be compared with those they were made of."""
        _hold(pl_module, True)

    on_predict_batch_end = on_test_batch_end
    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_predict_epoch_end = on_validation_epoch_end


def _hold(model: Any, on: bool) -> None:
    for method in (model.image_method, model.text_method):
        method.hold(on)


def plain_texts(what: str, given: Iterable[str]) -> list[str]:
    """Texts as a list of plain strings, whatever sequence they come in (an array of numpy, a series of pandas, …).

    Args:
        what: what they are, for the message.
        given: the texts.

    Raises:
        MmfuseError: a single text, or something that is no text or empty.
    """
    texts = [given] if isinstance(given, str) else list(given)
    if isinstance(given, str) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise MmfuseError(f"{what} must be a list of texts, none of them empty; got {given!r:.80}")
    return [str(text) for text in texts]


def check_names(names: Iterable[str]) -> list[str]:
    """Class names as plain strings, such as prompts can tell apart.

    Raises:
        MmfuseError: one name only, a name twice, or something that is no text.
    """
    texts = plain_texts("class_names", names)
    if len(texts) < 2:
        raise MmfuseError(f"at least two classes are needed to tell apart; got {len(texts)}")
    twice = [name for name in texts if texts.count(name) > 1]
    if twice:
        raise MmfuseError(f"the class name {twice[0]!r} is given twice; no prompt could tell the two apart")
    return texts


def check_templates(templates: Iterable[str]) -> list[str]:
    """Templates as plain strings.

    Raises:
        MmfuseError: none, or one without a single `{}`.
    """
    texts = plain_texts("templates", templates)
    if not texts:
        raise MmfuseError(f"at least one template is needed, such as {DEFAULT_TEMPLATE!r}")
    for template in texts:
        if template.count("{}") != 1 or {"{", "}"} & set(template.replace("{}", "", 1)):
            raise MmfuseError(f"a template has one {{}} for the class name, and no other braces; got {template!r}")
    return texts
