"""Testing a model: from kept features where that is possible, and in smaller batches where memory runs out."""

from __future__ import annotations

import lightning as L

from mmfuse.bench import environment
from mmfuse.bench.device_faults import out_of_memory
from mmfuse.bench.feature_cache import FrozenPrefix, use_cached_prefix
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.model.optimizations import Optimizations
from mmfuse.model.recognizer import ActionRecognizer


class Tester:
    """Tests one model on one or several test lists.

    Args:
        model: the recogniser.
        trainer: that trains and tests it.
        optimizations: which are on.
        tower: digest of all that decides what the image tower gives.
    """

    def __init__(
        self, model: ActionRecognizer, trainer: L.Trainer, *, optimizations: Optimizations, tower: str
    ) -> None:
        self._model, self._trainer = model, trainer
        self._optimizations, self._tower = optimizations, tower
        self._prefixes: list[FrozenPrefix] = []
        self._halved: list[str] = []

    def keep_features(self, data: FewShotVideoDataModule) -> None:
        """Let the data give what the frozen part of the image tower makes of their clips, where that pays."""
        prefix = use_cached_prefix(
            data, self._model, self._trainer, optimizations=self._optimizations, fingerprint=self._tower
        )
        if prefix is not None:
            self._prefixes.append(prefix)

    def test(self, data: FewShotVideoDataModule) -> None:
        """Test; as often as memory runs out, again from the start with batches of half the size."""
        whole = data.batch_size
        while True:
            try:
                self._trainer.test(self._model, datamodule=data, verbose=False)
                break
            except Exception as error:
                # The ranks of several devices must agree on their batches; they are all begun again.
                if not out_of_memory(error) or data.batch_size == 1 or self._trainer.world_size > 1:
                    raise
            data.batch_size = max(1, data.batch_size // 2)
            environment.free_memory()
        if data.batch_size != whole:
            self._halved.append(f"out of memory in the test; tested {data.batch_size} at a time")

    @property
    def remarks(self) -> list[str]:
        """What a record is to say of the tests; complete only once they are done."""
        return [prefix.note for prefix in self._prefixes if prefix.note] + self._halved
