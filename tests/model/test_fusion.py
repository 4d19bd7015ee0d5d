"""Fusions: one interface, and what may and may not change their logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmfuse.errors import MmfuseError
from mmfuse.model.fusion import FUSIONS, Fusion, build_fusion, centred

CLIPS, FRAMES, FRAME_WIDTH, CLASSES, CLASS_WIDTH = 3, 4, 10, 5, 6


def build(kind: str, **arguments: object) -> Fusion:
    return build_fusion(
        {"kind": kind, **({} if kind in {"linear", "concat"} else {"width": 16}), **arguments},
        frame_width=FRAME_WIDTH,
        class_width=CLASS_WIDTH,
        frames=FRAMES,
        classes=CLASSES,
        generator=torch.Generator().manual_seed(0),
    ).eval()


def random_inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(CLIPS, FRAMES, FRAME_WIDTH, generator=generator)
    return frames, torch.randn(CLASSES, CLASS_WIDTH, generator=generator)


def disturbed(fusion: Fusion) -> Fusion:
    """With every weight moved, so that a gate at zero hides nothing."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return fusion


@pytest.mark.parametrize("kind", FUSIONS)
def test_logits_and_gradients(kind: str) -> None:
    fusion, (frames, classes) = disturbed(build(kind)).train(), random_inputs()
    frames.requires_grad_()
    logits = fusion(frames, classes.requires_grad_())
    assert logits.shape == (CLIPS, CLASSES)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
    assert frames.grad is not None
    assert frames.grad.any()
    assert bool(classes.grad is not None and classes.grad.any()) is fusion.open_vocabulary
    still = [name for name, weight in fusion.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not still, f"no gradient reaches {still}"


@pytest.mark.parametrize("kind", [kind for kind, fusion in FUSIONS.items() if fusion.open_vocabulary])
def test_permuting_the_classes_permutes_the_logits(kind: str) -> None:
    fusion, (frames, classes) = disturbed(build(kind)), random_inputs()
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(fusion(frames, classes[order]), fusion(frames, classes)[:, order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", FUSIONS)
def test_shuffling_the_frames(kind: str) -> None:
    fusion, (frames, classes) = disturbed(build(kind)), random_inputs()
    unchanged = torch.allclose(fusion(frames[:, [2, 0, 3, 1]], classes), fusion(frames, classes), atol=1e-4)
    assert unchanged is not fusion.sees_order
    assert fusion.sees_order is (kind not in {"mean", "linear"})


@pytest.mark.parametrize("kind", FUSIONS)
def test_clips_of_a_batch_do_not_see_each_other(kind: str) -> None:
    fusion, (frames, classes) = disturbed(build(kind)), random_inputs()
    alone = torch.cat([fusion(clip.unsqueeze(0), classes) for clip in frames])
    torch.testing.assert_close(fusion(frames, classes), alone, rtol=1e-4, atol=1e-4)


def test_the_joint_fusion_starts_as_its_ordered_pooling() -> None:
    fusion, (frames, classes) = build("joint"), random_inputs()
    video = fusion.pooling(fusion.frame_projection(frames))
    expected = fusion.head(video, fusion.class_projection(centred(classes)))
    torch.testing.assert_close(fusion(frames, classes), expected)


def test_centring_takes_away_what_the_classes_share() -> None:
    _, classes = random_inputs()
    nearly_collinear = centred(100 * torch.ones(CLASS_WIDTH) + classes)
    torch.testing.assert_close(nearly_collinear.mean(dim=0), torch.zeros(CLASS_WIDTH), rtol=0, atol=1e-3)
    torch.testing.assert_close(nearly_collinear.square().mean(), torch.tensor(1.0))
    assert not centred(classes[:1]).any()


@pytest.mark.parametrize("kind", FUSIONS)
def test_the_generator_alone_decides_the_weights(kind: str) -> None:
    torch.manual_seed(1)
    first = build(kind).state_dict()
    torch.manual_seed(2)
    again = build(kind).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("jiont", "unknown fusion 'jiont'; did you mean 'joint'?"),
        ({"kind": "joint", "widht": 8}, "unknown argument of fusion 'joint' 'widht'; did you mean 'width'?"),
        ({"kind": "joint", "frames": 8}, "unknown argument of fusion 'joint' 'frames'"),
        ({"kind": "pool", "layers": 2}, "unknown argument of fusion 'pool' 'layers'"),
        ({"kind": "joint", "width": 10}, "fusion 'joint': a width of 10 cannot be shared by 4 heads"),
        ({"kind": "joint", "width": 0}, "fusion 'joint': width must be at least 1, got 0"),
        ({"kind": "cross", "layers": 0}, "fusion 'cross': layers must be at least 1, got 0"),
        ({"kind": "late", "layers": 0}, "fusion 'late': layers must be at least 1, got 0"),
    ],
)
def test_wrong_argument(spec: object, message: str) -> None:
    with pytest.raises(MmfuseError) as caught:
        build_fusion(spec, frame_width=4, class_width=4, frames=2, classes=2, generator=torch.Generator())  # type: ignore[arg-type]
    assert message in str(caught.value)
