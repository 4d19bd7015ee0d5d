"""Low-rank methods, through huggingface/peft: its layers are put into the frozen tower in place."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from mmfuse.encoders.tower import Tower
from mmfuse.methods.dora_linear import ComposedDoRA
from mmfuse.methods.merging import Mergeable
from mmfuse.methods.validation import at_least, number, probability, target_names
from mmfuse.utils.seeding import seeded

ADAPTER = "default"


class PeftMethod(Mergeable):
    """Any method of peft that inserts tuner layers into linear maps.

    `task_type` is left None on purpose: with FEATURE_EXTRACTION peft would pass `input_ids` to a vision tower.

    Args:
        tower: either tower.
        generator: source of the initial weights.
        config: peft's own configuration, with `target_modules` as full names in the tower's model.
    """

    def __init__(self, tower: Tower, *, generator: torch.Generator, config: Any) -> None:
        super().__init__()
        with seeded(generator), quiet():
            wrapped = peft.get_peft_model(tower.model, config, adapter_name=ADAPTER)
        # In a tuple, so that torch does not count the tower's weights as this module's own.
        self._wrapped = (wrapped,)
        changed = [
            (tower.layer_of(path), module)
            for path, module in tower.model.named_modules()
            if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
        ]
        self.first_adapted_layer = min((layer for layer, _ in changed), default=tower.depth)
        self._tuners = [module for _, module in changed if isinstance(module, BaseTunerLayer)]
        self.inserted = tuple(self._tuners)

    def save_in_peft_format(self, folder: Path) -> None:
        """Write the adapter in peft's own format, for `PeftModel.from_pretrained` on the tower's model."""
        with quiet():
            self._wrapped[0].save_pretrained(str(folder), safe_serialization=True)
        (folder / "README.md").unlink(missing_ok=True)  # a form to fill in

    def switch(self, on: bool) -> None:
        """See `Method.switch`."""
        super().switch(on)
        tuner = self._wrapped[0].base_model
        # peft also turns gradients of the inserted weights off and on; which are trained is not its business here.
        trained = [(weight, weight.requires_grad) for weight in tuner.parameters()]
        (tuner.enable_adapter_layers if on else tuner.disable_adapter_layers)()
        for weight, is_trained in trained:
            weight.requires_grad_(is_trained)

    @torch.compiler.disable
    def refresh(self) -> None:
        """See `Mergeable.refresh`; under autocast, leave all casts to it.

        peft would cast the input, which the tower has cast once for several maps, back to the type of its weights, and
        autocast would then cast it once more.
        """
        super().refresh()
        kind = next(self._tuners[0].parameters()).device.type if self._tuners else "cpu"
        lowered = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        for tuner in self._tuners:
            if hasattr(tuner, "cast_input_dtype_enabled"):
                tuner.cast_input_dtype_enabled = not lowered

    def _targets(self) -> list[Any]:
        return self._tuners

    def _weights(self) -> list[Tensor]:
        # By identity: VeRA's random matrices are in every tuner.
        found = {id(tensor): tensor for tuner in self._tuners for tensor in (*tuner.parameters(), *tuner.buffers())}
        return list(found.values())

    def _stand_in(self, place: int) -> nn.Module:
        # peft merges in place, so on a copy: of the layer alone, not of this method, which its `forward` leads to.
        tuner = copy.deepcopy(self._tuners[place], {id(self): self})
        tuner.merge()
        return tuner.get_base_layer()


class LoRA(PeftMethod):
    """LoRA (Hu et al. 2021, eq. 3): W + (α/r)·BA on linear maps, B starting at zero.

    Args:
        tower: either tower.
        generator: source of the initial weights.
        rank: r.
        alpha: α; the update is scaled by α/r.
        dropout: probability, on the input of A.
        targets: roles of the linear maps: "q", "k", "v", "o", "fc1", "fc2".
        layers: numbers of the layers whose maps are adapted; all where None.
    """

    magnitude = False

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        rank: int = 8,
        alpha: float = 16,
        dropout: float = 0.0,
        targets: Sequence[str] = ("q", "v"),
        layers: Sequence[int] | None = None,
    ) -> None:
        at_least("rank", rank, 1)
        number("alpha", alpha)
        probability("dropout", dropout)
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=target_names(tower, targets, layers),
            use_dora=self.magnitude,
        )
        if self.magnitude:
            config._register_custom_module({nn.Linear: ComposedDoRA})  # peft's documented way; not saved with it
        super().__init__(tower, generator=generator, config=config)


class DoRA(LoRA):
    """DoRA (Liu et al. 2024, eq. 5): m · (W + BA) / ‖W + BA‖, the norm by row and m starting as ‖W‖.

    Args: as `LoRA`.
    """

    magnitude = True

    def compose(self, on: bool) -> None:
        """See `ComposedDoRA`."""
        for tuner in self._tuners:
            tuner.composes = on


class VeRA(PeftMethod):
    """VeRA (Kopiczko et al. 2024, eq. 2): W + Λ_b B Λ_d A, with A and B random, frozen and shared; b starts at zero.

    Args:
        tower: either tower.
        generator: source of A and B.
        rank: r, of A and B.
        initial: value that the vector d starts from.
        dropout: probability, on the input of A.
        targets: roles of the linear maps.
        layers: numbers of the layers whose maps are adapted; all where None.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        rank: int = 256,
        initial: float = 0.1,
        dropout: float = 0.0,
        targets: Sequence[str] = ("q", "v"),
        layers: Sequence[int] | None = None,
    ) -> None:
        at_least("rank", rank, 1)
        number("initial", initial)
        probability("dropout", dropout)
        names = target_names(tower, targets, layers)
        with quiet():
            config = peft.VeraConfig(
                r=rank,
                d_initial=initial,
                vera_dropout=dropout,
                target_modules=names,
                projection_prng_key=int(torch.randint(2**31, (), generator=generator)),
                save_projection=False,  # made anew from the key
            )
        super().__init__(tower, generator=generator, config=config)


class LoHa(PeftMethod):
    """LoHa (Hyeon-Woo et al. 2022, FedPara; LyCORIS): W + (α/r)·(B₁A₁) ⊙ (B₂A₂), a Hadamard product of rank up to r².

    Args:
        tower: either tower.
        generator: source of the initial weights.
        rank: r, of each product.
        alpha: α.
        targets: roles of the linear maps.
        layers: numbers of the layers whose maps are adapted; all where None.
    """

    configuration: Any = peft.LoHaConfig

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        rank: int = 8,
        alpha: float = 8,
        targets: Sequence[str] = ("q", "v"),
        layers: Sequence[int] | None = None,
    ) -> None:
        at_least("rank", rank, 1)
        number("alpha", alpha)
        config = self.configuration(r=rank, alpha=alpha, target_modules=target_names(tower, targets, layers))
        super().__init__(tower, generator=generator, config=config)


class LoKr(LoHa):
    """LoKr (Yeh et al. 2024, LyCORIS): W + (α/r)·C ⊗ BA, a Kronecker product whose larger factor is of low rank.

    Args: as `LoHa`.
    """

    configuration = peft.LoKrConfig


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of peft that ask nothing of a user of this package.

    It reads a property that `transformers` is about to rename, looks for CUDA's compiler where none is needed, and
    advises to keep VeRA's random matrices, which their key makes anew.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*(CUDA extension|butterfly_factor|vera_A).*")
        yield
