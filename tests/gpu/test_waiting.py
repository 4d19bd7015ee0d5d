"""A training step and a test batch ask nothing of a device, so that it never waits for the processor."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from mmfuse.bench.progress_callback import ProgressCallback
from mmfuse.model import batches
from mmfuse.model.recognizer import ActionRecognizer
from tests import towers
from tests.gpu.test_pretended_device import ASKS_THE_DEVICE


class Waits(TorchDispatchMode):
    """Counts operators whose answer the processor waits for."""

    def __init__(self, counted: Counter[str]) -> None:
        super().__init__()
        self._counted = counted

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator.overloadpacket.__name__
        if name in ASKS_THE_DEVICE:
            self._counted[name] += 1
        return operator(*args, **(kwargs or {}))


class Counting(Callback):
    """Watches each batch, from before its step until all other callbacks have had their turn."""

    def __init__(self) -> None:
        self.training: list[Counter[str]] = []
        self.test: list[Counter[str]] = []
        self._mode: Waits | None = None

    def _begin(self, into: list[Counter[str]]) -> None:
        into.append(Counter())
        self._mode = Waits(into[-1])
        self._mode.__enter__()

    def _end(self) -> None:
        assert self._mode is not None
        self._mode.__exit__(None, None, None)

    def on_train_batch_start(self, *args: Any) -> None:
        self._begin(self.training)

    def on_train_batch_end(self, *args: Any) -> None:
        self._end()

    def on_test_batch_start(self, *args: Any) -> None:
        self._begin(self.test)

    def on_test_batch_end(self, *args: Any) -> None:
        self._end()


@pytest.mark.parametrize(("image", "text"), [("dora", "adapter"), ("boft", "coop")])
def test_no_step_and_no_batch_waits(image: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a GPU labels are checked before they are sent to it, which asks the processor alone.
    monkeypatch.setattr(batches, "check_range", lambda *labels, **classes: None)
    model = ActionRecognizer(
        towers.PHRASES,
        image_encoder=towers.image_tower(),
        text_encoder=towers.text_tower(),
        image_method=image,
        text_method=text,
        fusion={"kind": "joint", "width": 16},
        frames=4,
    )
    video = towers.clips(6)
    rows = [{"video": video[at], "label": torch.tensor(at % 5), "index": torch.tensor(at)} for at in range(6)]
    counting, told = Counting(), []
    # News come last among the callbacks that are given, but before `Counting` has ended.
    news = ProgressCallback(told.append, epochs=1, every=math.inf)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[news, counting],
    )
    trainer.fit(model, DataLoader(rows, batch_size=2))
    trainer.test(model, DataLoader(rows, batch_size=2), verbose=False)
    first, *training = counting.training
    # The first batch is told of, which takes its loss.
    assert first == Counter({"_local_scalar_dense": 1})
    assert training == [Counter()] * 2
    # So is the first one of the test, which also looks whether merged weights are those of the methods.
    assert counting.test[1:] == [Counter()] * 2
    assert [progress.phase for progress in told] == ["training", "testing"]
