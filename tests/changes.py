"""Ways in which weights change without anybody being told, for tests of whatever is kept of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Way = Callable[[nn.Module], None]


def _moved(weight: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(weight.numel())
    return weight.detach() + 0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)


def in_place(module: nn.Module) -> None:
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(_moved(weight))


def in_place_through_data(module: nn.Module) -> None:
    """Raises no version counter."""
    for weight in module.parameters():
        weight.data.copy_(_moved(weight))


def by_a_fused_optimiser(module: nn.Module) -> None:
    """Raises no version counter either."""
    weights = list(module.parameters())
    trained = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_(True)
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    torch.optim.AdamW(weights, lr=0.05, fused=True).step()
    for weight, was_trained in zip(weights, trained, strict=True):
        weight.grad = None
        weight.requires_grad_(was_trained)


def by_new_data(module: nn.Module) -> None:
    for weight in module.parameters():
        weight.data = _moved(weight)


def by_loading(module: nn.Module) -> None:
    module.load_state_dict({name: _moved(weight) for name, weight in module.named_parameters()}, strict=False)


def by_assigning(module: nn.Module) -> None:
    """The parameters are other objects afterwards."""
    new = {name: _moved(weight) for name, weight in module.named_parameters()}
    module.load_state_dict(new, strict=False, assign=True)


def to_another_dtype(module: nn.Module) -> None:
    module.to(torch.float64)


WAYS: list[Way] = [
    in_place,
    in_place_through_data,
    by_a_fused_optimiser,
    by_new_data,
    by_loading,
    by_assigning,
    to_another_dtype,
]
