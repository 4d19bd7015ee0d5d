"""LoRA whose factors start as a part of the weight they adapt: the singular vectors of PiSSA, the first rows of OLoRA.

The papers take that part out of the frozen weight, W = W_res + s·B₀A₀, and train BA in its place. Here W stays as it
is, and the product that the factors started from is subtracted beside it, W + s·BA − s·B₀A₀: the same numbers, but the
tower keeps its weights to the bit, and a disabled method gives the frozen output.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import safetensors.torch
import torch
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from torch import Tensor

from mmfuse.encoders.tower import Tower
from mmfuse.methods.low_rank import ADAPTER, PeftMethod, quiet
from mmfuse.methods.validation import at_least, number, probability, target_names

START = "start"
"""peft's adapter that holds B₀ and A₀, frozen, with the opposite sign."""


class PiSSA(PeftMethod):
    """PiSSA (Meng et al. 2024, eq. 2–4): BA starts as the r largest singular values of W with their vectors.

    Args:
        tower: either tower.
        generator: not used, as nothing is drawn.
        rank: r.
        alpha: α; the product is scaled by s = α/r, and starts as 1/s times the part.
        dropout: probability, on the input of A.
        targets: roles of the linear maps: "q", "k", "v", "o", "fc1", "fc2".
        layers: numbers of the layers whose maps are adapted; all where None.
    """

    # Another processor may give singular vectors with other signs, and A trained from one start fits no other.
    keeps_frozen = True

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        rank: int = 8,
        alpha: float = 8,
        dropout: float = 0.0,
        targets: Sequence[str] = ("q", "v"),
        layers: Sequence[int] | None = None,
    ) -> None:
        at_least("rank", rank, 1)
        number("alpha", alpha)
        if alpha <= 0:
            raise ValueError(
                f"alpha must be above 0, as the factors start as a part divided by alpha/rank; got {alpha}"
            )
        probability("dropout", dropout)
        names = target_names(tower, targets, layers)
        self._config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)
        super().__init__(tower, generator=generator, config=self._config)
        # Without dropout: B₀A₀ takes away from W what was put into BA, whatever is dropped there.
        start = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)
        with quiet():
            self._wrapped[0].add_adapter(START, start)
        for tuner in self._tuners:
            tuner.set_adapter([ADAPTER, START])
            tuner.scaling[START] = -tuner.scaling[ADAPTER]
            self._begin(tuner, on_meta=tower.on_meta)

    def _begin(self, tuner: Any, *, on_meta: bool) -> None:
        """Let both adapters of a linear map start as the same factors, of which one is trained."""
        weight, rank = tuner.get_base_layer().weight.detach(), tuner.r[ADAPTER]
        if rank > min(weight.shape):
            sides = " × ".join(map(str, weight.shape))
            raise ValueError(f"rank must be at most {min(weight.shape)} for a weight of {sides}; got {rank}")
        for adapter in (ADAPTER, START):
            for factor in (tuner.lora_A[adapter], tuner.lora_B[adapter]):
                factor.weight.requires_grad_(adapter == ADAPTER)
        if not on_meta:
            up, down = self._part(weight.float(), rank, tuner.scaling[ADAPTER])
            for adapter in (ADAPTER, START):
                tuner.lora_A[adapter].weight.data.copy_(down)
                tuner.lora_B[adapter].weight.data.copy_(up)

    @staticmethod
    def _part(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
        """The factors (out, r) and (r, in) that training begins with."""
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        roots = (values[:rank] / scale).sqrt()
        return left[:, :rank] * roots, roots.unsqueeze(1) * right[:rank]

    def save_in_peft_format(self, folder: Path) -> None:
        """Write the change s·BA − s·B₀A₀ as one LoRA of rank 2r, which needs no other weights than the tower's."""
        state = {}
        paths = {id(module): path for path, module in self._wrapped[0].named_modules()}
        for tuner in self._tuners:
            down = [tuner.lora_A[adapter].weight.detach() for adapter in (ADAPTER, START)]
            trained, start = (tuner.lora_B[adapter].weight.detach() for adapter in (ADAPTER, START))
            path = paths[id(tuner)]
            state[f"{path}.lora_A.weight"] = torch.cat(down).cpu().contiguous()
            state[f"{path}.lora_B.weight"] = torch.cat([trained, -start], dim=1).cpu().contiguous()
        folder.mkdir(parents=True)
        given = self._config
        both = peft.LoraConfig(
            r=2 * given.r,
            lora_alpha=2 * given.lora_alpha,
            lora_dropout=given.lora_dropout,
            target_modules=given.target_modules,
            inference_mode=True,
        )
        both.save_pretrained(str(folder))
        # peft writes sets in no order; a file that differs from run to run cannot be compared.
        config = json.loads((folder / CONFIG_NAME).read_text())
        config["target_modules"] = sorted(config["target_modules"])
        (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True))
        safetensors.torch.save_file(state, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})


class OLoRA(PiSSA):
    """OLoRA (Büyükakyüz 2024, eq. 2–4): B starts as the first r columns of Q and A as the first r rows of R, W = QR.

    Args: as `PiSSA`.
    """

    @staticmethod
    def _part(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
        orthonormal, triangular = torch.linalg.qr(weight)
        return orthonormal[:, :rank], triangular[:rank]
