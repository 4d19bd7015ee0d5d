"""Attention in bf16 on a CPU whose gradients come from matrix products.

torch's attention kernel for CPUs is fast on the way forward. On the way back, in bf16, it reaches a fraction of what
the matrix units do (up to torch 2.13 at least), and takes a quarter to a third of a training step. Here the way back
computes the weights of attention again, a few heads at a time so that they stay in the processor's cache, and takes
the gradients as products of matrices. With O = P·V, P = softmax(S), S = s·Q·Kᵀ, and dO given:

    dV = Pᵀ·dO,   dP = dO·Vᵀ,   dS = P ∘ (dP − rowsum(P ∘ dP)),   dQ = s·dS·K,   dK = s·dSᵀ·Q

(Dao et al. 2022, FlashAttention, appendix B.2). Scores are computed in 32 bits, as the kernel has them: rounded to
bf16, a score of 20 would be off by up to 0.06, and its weight by 6 %. What all values have in common is taken off V
before dP, which changes no dS, as its rows sum to zero, but would be rounded with all the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "mmfuse"
"""Under which `transformers` knows it (`model.set_attn_implementation`)."""
SCORES = 4 * 2**20
"""Bytes of the scores that are computed at once; chosen by timing, as is the next one."""
LONGEST = 600
"""Tokens of a frame up to which this is the faster way."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention as `transformers` calls it; what is not bf16 on a CPU with gradients is left to its `sdpa`.

    So are long frames, where the kernel is no slower, and what `torch.compile` traces, as parts would make its graph
    grow with the batch. Second derivatives are not supported, as they are not by the kernel.

    Args:
        module: the model's own attention.
        query, key, value: (N, heads, S, width of a head).
        attention_mask: there is none in image towers.
        dropout: there is none in frozen towers.
        scaling: what the scores are multiplied by.
        more: what else `sdpa` takes.

    Returns:
        (N, S, heads, width of a head), and no weights.
    """
    causal = more.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal  # as `sdpa` reads it
    plain = attention_mask is None and more.get("position_bias") is None and not dropout and not causal
    if plain and _pays(query, key, value) and not torch.compiler.is_compiling():
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        attended: Tensor = _Attention.apply(*(tensor.bfloat16() for tensor in (query, key, value)), scale)
        return attended.transpose(1, 2).contiguous(), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)


AttentionInterface.register(NAME, attend)


def use_products(model: Any, *, on: bool) -> None:
    """Let a model of `transformers` attend this way, or by `sdpa` again; one that attends in another way is left."""
    now, then = ("sdpa", NAME) if on else (NAME, "sdpa")
    if model.config._attn_implementation == now:
        model.set_attn_implementation(then)


def _pays(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether gradients are wanted of attention that is computed in bf16 on a CPU, on frames of a usual size."""
    if query.device.type != "cpu" or not (query.requires_grad or key.requires_grad or value.requires_grad):
        return False
    dtypes = {query.dtype, key.dtype, value.dtype}
    if torch.is_autocast_enabled("cpu") and torch.float64 not in dtypes:  # which autocast leaves alone
        dtypes = {torch.get_autocast_dtype("cpu")}
    return (
        dtypes == {torch.bfloat16} and query.shape[:2] == key.shape[:2] and query.shape[2] * key.shape[2] <= LONGEST**2
    )


class _Attention(torch.autograd.Function):
    """Attention without a mask; queries (N, heads, S, width), keys and values (N, heads, S', width), all bf16."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value, scale=scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *states, ctx.scale = inputs
        ctx.save_for_backward(*states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *from_above: Tensor) -> Any:
        [above] = from_above
        query, key, value = ctx.saved_tensors
        gradients = tuple(torch.empty_like(tensor) for tensor in (query, key, value))
        at_once = SCORES // (query.shape[2] * key.shape[2] * torch.float32.itemsize)
        parts = (_parts(tensor, at_once) for tensor in (query, key, value, above, *gradients))
        # Whoever takes gradients under autocast does not mean the scores to be rounded.
        with torch.autocast("cpu", enabled=False):
            for q, k, v, d_out, *places in zip(*parts, strict=True):
                flat = [tensor.flatten(0, 1) for tensor in (q, k, v, d_out)]
                for place, found in zip(places, _gradients(*flat, scale=ctx.scale), strict=True):
                    place.copy_(found.view_as(place))
        return *gradients, None


def _parts(tensor: Tensor, at_once: int) -> Iterator[Tensor]:
    """A tensor (N, heads, S, width) in parts of `at_once` heads: some frames, or some heads of one."""
    for frames in tensor.split(max(1, at_once // tensor.shape[1])):
        yield from frames.split(at_once, dim=1)


def _gradients(query: Tensor, key: Tensor, value: Tensor, above: Tensor, *, scale: float) -> tuple[Tensor, ...]:
    """Gradients of queries (M, S, width), keys and values (M, S', width), M frames times heads."""
    scores = torch.bmm(query.float() * scale, key.float().mT)
    weights = torch.softmax(scores, dim=-1).to(query.dtype)
    d_weights = torch.bmm(above, (value - value.mean(dim=1, keepdim=True)).mT)
    # The kernel behind softmax's own gradient: one pass, summed in 32 bits.
    d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
    d_query, d_key = torch.bmm(d_scores, key), torch.bmm(d_scores.mT, query)
    return d_query * scale, d_key * scale, torch.bmm(weights.mT, above)
