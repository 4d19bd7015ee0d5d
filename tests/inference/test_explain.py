"""Each frame's share in a decision: cases where the answer is known, for every fusion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmfuse.data.frames.sampling import segment_centres
from mmfuse.data.frames.video import read_frames
from mmfuse.inference.explain import Explanation, contributions, explain
from mmfuse.inference.predict import Prediction, predict, vocabulary
from mmfuse.model.fusion import FUSIONS, Fusion, build_fusion
from tests import towers
from tests.data.videos import encode
from tests.inference.test_predict import SAMPLING, recognizer

T, F, C, E = 5, 12, 4, 8


def fusion_of(kind: str) -> Fusion:
    """A fusion in which every weight matters."""
    generator = torch.Generator().manual_seed(3)
    shape: dict[str, Any] = {"frame_width": F, "class_width": E, "frames": T, "classes": C}
    width = {} if kind in {"linear", "concat"} else {"width": 16}
    fusion = build_fusion({"kind": kind, **width}, **shape, generator=generator).eval()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return fusion


def features(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Of a clip, of nothing, and of the classes."""
    generator = torch.Generator().manual_seed(seed)
    return (
        2 * torch.randn(T, F, generator=generator),
        0.5 * torch.randn(T, F, generator=generator),
        torch.randn(C, E, generator=generator),
    )


def margin(fusion: Fusion, frames: Tensor, classes: Tensor, named: int) -> float:
    with torch.no_grad():
        logits = fusion(frames[None], classes)[0]
    return float(logits[named] - logits.mean())


@pytest.mark.parametrize("kind", FUSIONS)
@pytest.mark.parametrize("seed", range(3))
def test_contributions_add_up_to_what_the_frames_change(kind: str, seed: int) -> None:
    fusion, (seen, nothing, classes) = fusion_of(kind), features(seed)
    for named in range(C):
        parts = contributions(fusion, seen, nothing, classes=classes, named=named)
        whole = margin(fusion, seen, classes, named) - margin(fusion, nothing, classes, named)
        assert float(parts.sum()) == pytest.approx(whole, abs=2e-4)
    assert fusion.training is False
    assert all(parameter.grad is None for parameter in fusion.parameters())


@pytest.mark.parametrize("kind", FUSIONS)
def test_a_frame_that_shows_nothing_adds_nothing(kind: str) -> None:
    fusion, (seen, nothing, classes) = fusion_of(kind), features()
    seen[3] = nothing[3]
    parts = contributions(fusion, seen, nothing, classes=classes, named=1)
    assert float(parts[3]) == 0
    assert parts.abs().max() > 0


@pytest.mark.parametrize("kind", [kind for kind, fusion in FUSIONS.items() if not fusion.sees_order])
def test_frames_that_are_alike_share_alike_where_order_plays_no_part(kind: str) -> None:
    fusion, (seen, nothing, classes) = fusion_of(kind), features()
    seen, nothing = seen[:1].expand(T, -1), nothing[:1].expand(T, -1)
    parts = contributions(fusion, seen, nothing, classes=classes, named=2)
    assert parts.tolist() == pytest.approx([float(parts[0])] * T, rel=1e-4)
    assert abs(float(parts[0])) > 1e-3


@pytest.mark.parametrize("kind", [kind for kind, fusion in FUSIONS.items() if not fusion.sees_order])
def test_shares_move_with_their_frames_where_order_plays_no_part(kind: str) -> None:
    fusion, (seen, nothing, classes) = fusion_of(kind), features()
    nothing = nothing[:1].expand(T, -1)
    turned = contributions(fusion, seen.flip(0), nothing, classes=classes, named=0).flip(0)
    assert turned.tolist() == pytest.approx(
        contributions(fusion, seen, nothing, classes=classes, named=0).tolist(), abs=1e-5
    )


@pytest.mark.parametrize("kind", ["pool", "concat"])
def test_a_fusion_that_reads_one_frame_alone_gives_it_everything(kind: str) -> None:
    fusion, (seen, nothing, classes) = fusion_of(kind), features()
    with torch.no_grad():
        if kind == "pool":
            weight = fusion.pooling.weight  # (T, W)
            weight[[0, 1, 3, 4]] = 0
        else:
            weight = fusion.probe.weight.view(C, T, F)
            weight[:, [0, 1, 3, 4]] = 0
    parts = contributions(fusion, seen, nothing, classes=classes, named=1)
    assert parts[[0, 1, 3, 4]].abs().max() == 0
    assert float(parts[2]) == pytest.approx(
        margin(fusion, seen, classes, 1) - margin(fusion, nothing, classes, 1), abs=1e-4
    )


def test_where_logits_are_linear_in_the_frames_the_shares_are_exact() -> None:
    class Plain(torch.nn.Module):
        """Logits that are known: each class weighs the frames' sums of features in its own way."""

        def forward(self, frames: Tensor, classes: Tensor) -> Tensor:
            return torch.einsum("btf,tc->bc", frames, weights)

    weights = torch.tensor([[1.0, 0, 0], [2, 0, 0], [0, 3, 0]])  # (T, C)
    seen, nothing = torch.ones(3, 2), torch.zeros(3, 2)
    parts = contributions(Plain(), seen, nothing, classes=torch.zeros(3, 1), named=0)  # type: ignore[arg-type]
    # Of class 0 less the mean of three: 2·(1 - 1/3), 2·(2 - 2/3), 2·(0 - 3/3).
    assert parts.tolist() == pytest.approx([4 / 3, 8 / 3, -2], abs=1e-5)


@pytest.mark.parametrize("kind", FUSIONS)
def test_a_video_is_explained(kind: str, tmp_path: Path) -> None:
    video = encode(tmp_path / "a.mp4", codec="libx264", count=20)
    width = {} if kind in {"linear", "concat"} else {"width": 16}
    model = recognizer(fusion={"kind": kind, **width})
    model.train()
    found = explain(model, video, vocabulary(model))
    assert model.training
    [told] = predict(model, video)
    assert found.prediction.labels == told.labels
    assert found.prediction.probabilities == pytest.approx(told.probabilities, abs=1e-6)
    assert (found.count, found.numbers) == (20, tuple(segment_centres(20, 4).tolist()))
    assert found.frames_per_second == 25
    assert found.grey + sum(found.contributions) == pytest.approx(found.margin, abs=2e-4)
    assert sum(map(abs, found.shares)) == pytest.approx(1)
    assert explain(model, video, vocabulary(model)).contributions == found.contributions
    frames = read_frames(video, lambda count: segment_centres(count, 4), short_side=SAMPLING["short_side"])
    left = (frames.shape[2] - SAMPLING["size"] + 1) // 2
    assert (found.pictures == frames[:, :, left : left + SAMPLING["size"]]).all()


def test_new_names_are_explained_too(tmp_path: Path) -> None:
    video = encode(tmp_path / "a.mp4", codec="libx264", count=20)
    model = recognizer()
    found = explain(model, video, vocabulary(model, ["one", "two", "three"]))
    assert found.prediction.zero_shot
    assert found.grey + sum(found.contributions) == pytest.approx(found.margin, abs=2e-4)


def test_shares_keep_their_signs() -> None:
    told = Prediction(Path("a.mp4"), ("a", "b"), (0.7, 0.3))
    shape: dict[str, Any] = {"pictures": towers.clips(1, 2)[0].permute(0, 2, 3, 1).numpy(), "numbers": (0, 1)}
    numbers = {"count": 2, "frames_per_second": 0.0, "grey": 0.0, "margin": 2.0}
    assert Explanation(told, **shape, **numbers, contributions=(3.0, -1.0)).shares == (0.75, -0.25)
    assert Explanation(told, **shape, **numbers, contributions=(0.0, 0.0)).shares == (0.0, 0.0)
