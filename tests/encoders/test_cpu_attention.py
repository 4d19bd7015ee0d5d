"""Attention whose gradients come from matrix products: as exact as the kernel's, and only where it is meant."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfuse import ActionRecognizer
from mmfuse.encoders import cpu_attention
from mmfuse.encoders.cpu_attention import attend
from mmfuse.model.optimizations import Optimizations
from tests import towers

OURS = "_AttentionBackward"
Three = tuple[Tensor, Tensor, Tensor]


def states(
    frames: int = 3,
    heads: int = 2,
    tokens: int = 17,
    keys: int | None = None,
    *,
    scores: float = 1.0,
    common: float = 0.0,
) -> Three:
    """Queries, keys and values in bf16 as the towers make them: heads split off the last dimension.

    Args:
        frames, heads, tokens, keys: their shape.
        scores: how large the scores are.
        common: what all values have in common.
    """
    generator = torch.Generator().manual_seed(0)

    def made(length: int, scale: float, more: float = 0.0) -> Tensor:
        flat = scale * torch.randn(frames, length, heads * 16, generator=generator) + more
        return flat.bfloat16().unflatten(2, (heads, 16)).transpose(1, 2)

    return made(tokens, scores), made(keys or tokens, 1.0), made(keys or tokens, 1.0, common)


def gradients(
    given: Three, way: object, *, dtype: torch.dtype = torch.bfloat16, scale: float = 0.2, common: float = 0.0
) -> list[Tensor]:
    """What comes out of (N, heads, S, width), and the gradients of all three."""
    leaves = [tensor.detach().to(dtype).requires_grad_() for tensor in given]
    attended = way(*leaves, scale)  # type: ignore[operator]
    above = torch.randn(attended.shape, generator=torch.Generator().manual_seed(1)) + common
    above = above.bfloat16().to(dtype)
    return [attended.detach(), *torch.autograd.grad(attended, leaves, above)]


def ours(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return attend(nn.Module(), query, key, value, None, scaling=scale, is_causal=False)[0].transpose(1, 2)


def kernel(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, scale=scale)


def direct(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return torch.softmax(scale * query @ key.mT, dim=-1) @ value


def off(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("common", [0.0, 10.0], ids=["", "values alike"])
@pytest.mark.parametrize("scores", [1.0, 30.0], ids=["small scores", "large scores"])
@pytest.mark.parametrize("keys", [None, 9], ids=["self", "fewer keys"])
@pytest.mark.parametrize("heads_at_once", [1, 2, 4, 100])
def test_its_gradients_are_as_exact_as_the_kernels(
    heads_at_once: int, keys: int | None, scores: float, common: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = states(frames=5, heads=3, keys=keys, scores=scores, common=common)
    monkeypatch.setattr(cpu_attention, "SCORES", heads_at_once * 17 * (keys or 17) * 4)
    exact = gradients(given, direct, dtype=torch.float64, common=common)
    found, usual = (gradients(given, way, common=common) for way in (ours, kernel))
    torch.testing.assert_close(found[0], usual[0], rtol=0, atol=0)
    for mine, theirs, true in zip(found[1:], usual[1:], exact[1:], strict=True):
        assert off(mine, true) < max(1.5 * off(theirs, true), 0.006)
        assert mine.stride() == theirs.stride(), "else heads are copied together once more"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many heads are computed at once, each time."""
    counts: list[int] = []
    own = cpu_attention._gradients
    monkeypatch.setattr(
        cpu_attention, "_gradients", lambda *given, **how: counts.append(len(given[0])) or own(*given, **how)
    )
    return counts


@pytest.mark.parametrize(
    ("heads_at_once", "counts"), [(1, [1] * 15), (2, [2, 1] * 5), (4, [3] * 5), (7, [6, 6, 3]), (100, [15])]
)
def test_it_computes_no_more_scores_at_once_than_the_cache_holds(
    heads_at_once: int, counts: list[int], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_attention, "SCORES", heads_at_once * 17 * 17 * 4)
    gradients(states(frames=5, heads=3), ours)
    assert asked == counts


def test_under_autocast_it_gives_what_bf16_gives_in_whatever_the_gradients_are_taken() -> None:
    given = states()
    plain = gradients(given, ours)

    def cast(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return ours(query, key, value, scale)

    for inside in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            found = gradients(given, cast, dtype=torch.float32)
        for mine, expected in zip(found, plain, strict=True):
            torch.testing.assert_close(mine.bfloat16(), expected, rtol=0.02, atol=1e-3)


def taken(*given: Tensor, mask: Tensor | None = None, **how: object) -> bool:
    attended, weights = attend(nn.Module(), *given, mask, **how)  # type: ignore[arg-type]
    assert weights is None
    node = attended.grad_fn
    while node is not None and node.name() != OURS:
        node = node.next_functions[0][0] if node.next_functions else None
    return node is not None


def test_it_is_taken_for_bf16_with_gradients_alone() -> None:
    trained = [tensor.detach().requires_grad_() for tensor in states()]
    assert taken(*trained, is_causal=False)
    assert taken(trained[0], *states()[1:], is_causal=False)
    assert not taken(*states(), is_causal=False)
    assert not taken(*trained, is_causal=True)
    assert not taken(*trained), "a model that does not say so is causal"
    assert not taken(*trained, is_causal=False, position_bias=torch.zeros(1, 1, 17, 17, dtype=torch.bfloat16))
    assert not taken(*trained, is_causal=False, dropout=0.5)
    assert not taken(*trained, is_causal=False, mask=torch.ones(17, 17, dtype=torch.bool))
    assert not taken(*(tensor.detach().float().requires_grad_() for tensor in trained), is_causal=False)
    with torch.no_grad():
        assert not taken(*trained, is_causal=False)


def test_what_is_longer_or_unlike_is_left_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = [tensor.detach().requires_grad_() for tensor in states()]
    assert not taken(trained[0], *(tensor[:1] for tensor in trained[1:]), is_causal=False), "keys for all frames"
    with torch.autocast("cpu", torch.bfloat16):
        assert not taken(*(tensor.detach().double().requires_grad_() for tensor in trained), is_causal=False)
    with torch.autocast("cpu", torch.float16):
        assert not taken(*trained, is_causal=False)
    with monkeypatch.context() as patched:
        patched.setattr(torch.compiler, "is_compiling", lambda: True)
        assert not taken(*trained, is_causal=False)
    monkeypatch.setattr(cpu_attention, "LONGEST", 16)
    assert not taken(*trained, is_causal=False)


def test_the_usual_scale_is_that_of_the_kernel() -> None:
    given = [tensor.detach().requires_grad_() for tensor in states()]
    attended = [
        attend(nn.Module(), *given, None, is_causal=False)[0].transpose(1, 2),
        functional.scaled_dot_product_attention(*given),
    ]
    (mine, *_), (theirs, *_) = (torch.autograd.grad(each.square().sum(), given) for each in attended)
    torch.testing.assert_close(mine, theirs, rtol=0.05, atol=0.02)


def test_gradients_of_gradients_are_refused_and_torch_func_is_not() -> None:
    trained = [tensor.detach().requires_grad_() for tensor in states()]
    [first] = torch.autograd.grad(ours(*trained, 0.2).square().sum(), trained[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
    mine, theirs = (
        torch.func.grad(lambda query, way=way: way(query, *states()[1:], 0.2).square().sum())(states()[0])
        for way in (ours, kernel)
    )
    torch.testing.assert_close(mine, theirs, rtol=0.05, atol=0.02)


def recogniser(kind: str, *, on: bool, checkpointing: bool = False) -> ActionRecognizer:
    return ActionRecognizer(
        towers.PHRASES[:4],
        image_encoder=towers.image_tower(kind),
        text_encoder=towers.text_tower(),
        image_method="lora",
        frames=2,
        fusion={"kind": "joint", "width": 16, "layers": 1, "heads": 2},
        optimizations=Optimizations(attention=on, checkpointing=checkpointing),
    ).eval()


def step(model: ActionRecognizer, dtype: torch.dtype) -> dict[str, Tensor]:
    batch = {"video": towers.clips(3, 2), "label": torch.arange(3)}
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = model.loss(batch)
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("kind", towers.IMAGE_KINDS)
def test_a_step_has_its_gradients_in_every_tower(kind: str, checkpointing: bool, asked: list[int]) -> None:
    exact = step(recogniser(kind, on=False), torch.float32)
    plain = step(recogniser(kind, on=False, checkpointing=checkpointing), torch.bfloat16)
    assert not asked
    found = step(recogniser(kind, on=True, checkpointing=checkpointing), torch.bfloat16)
    assert asked
    assert found.keys() == plain.keys() == exact.keys()
    # Over all weights: those of factors that start at zero are noise by themselves.
    together = [torch.cat([of[name].flatten() for name in exact]).double() for of in (found, plain, exact)]
    assert off(together[0], together[2]) < 1.2 * off(together[1], together[2]) + 1e-3


def test_the_switch_puts_the_towers_own_attention_back_and_leaves_any_other_alone() -> None:
    tower = towers.image_tower()
    for on, name in ((True, cpu_attention.NAME), (True, cpu_attention.NAME), (False, "sdpa"), (False, "sdpa")):
        tower.attend_by_products(on)
        assert tower.model.config._attn_implementation == name
    tower.model.set_attn_implementation("eager")
    for on in (True, False):
        tower.attend_by_products(on)
        assert tower.model.config._attn_implementation == "eager"


READ = """
import pickle, sys, torch
from pathlib import Path
tower, frames, expected = pickle.loads(Path(sys.argv[1]).read_bytes())
with torch.no_grad():
    torch.testing.assert_close(tower(frames), expected)
"""


@pytest.mark.parametrize("kind", ["dinov2", "dinov3"])
def test_a_tower_that_attends_so_is_read_by_another_process(kind: str, tmp_path: Path) -> None:
    """As strategies that start processes send it: the name alone would mean nothing there."""
    tower, frames = towers.image_tower(kind), towers.clips()
    tower.attend_by_products(True)
    with torch.no_grad():
        (tmp_path / "tower").write_bytes(pickle.dumps((tower, frames, tower(frames))))
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path / "tower")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
