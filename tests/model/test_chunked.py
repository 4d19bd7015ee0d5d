"""A large batch in chunks gives what it gives at once."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmfuse import ActionRecognizer
from mmfuse.encoders.image import ImageTower
from mmfuse.errors import MmfuseError
from mmfuse.methods import METHODS
from mmfuse.model import chunked
from mmfuse.model.optimizations import Optimizations
from tests import towers
from tests.methods.sweep import SMALL, disturb

IMAGE_METHODS = [name for name in METHODS if "image" in METHODS[name].towers]
TEXT_METHODS = [name for name in METHODS if "text" in METHODS[name].towers]
CLIPS, FRAMES = 5, 4


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for the pixels of two clips, more than their tokens take: 5 clips are cut into 2, 2 and 1."""
    monkeypatch.setattr(chunked, "LARGEST", 2 * FRAMES * 3 * towers.SIZE**2 * 4)


def recogniser(
    image: object = "lora", text: object = "frozen", *, optimizations: Optimizations | None = None
) -> ActionRecognizer:
    model = ActionRecognizer(
        towers.PHRASES[:4],
        image_encoder=towers.image_tower(),
        text_encoder=towers.text_tower(),
        image_method=image,  # type: ignore[arg-type]
        text_method=text,  # type: ignore[arg-type]
        frames=FRAMES,
        fusion={"kind": "joint", "width": 16, "layers": 1, "heads": 2},
        optimizations=optimizations or Optimizations(),
    )
    disturb(model.image_tower, model.image_method)
    disturb(model.text_tower, model.text_method)
    return model.eval()


def batch() -> dict[str, Tensor]:
    return {"video": towers.clips(CLIPS, FRAMES), "label": torch.arange(CLIPS) % 4}


def step(model: ActionRecognizer, given: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and every gradient; scaled, as accumulation over batches does it."""
    loss = model.loss(given)
    (loss / 2).backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def seen_at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips the image tower is given, each time, whole or in either of its halves."""
    counts: list[int] = []

    def counting(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def counted(tower: ImageTower, given: Tensor, **how: int) -> Tensor:
            counts.append(len(given))
            return own(tower, given, **how)

        return counted

    monkeypatch.setattr(ImageTower, "forward", counting(ImageTower.forward))
    return counts


@pytest.mark.parametrize(
    ("image", "text"),
    [(name, "frozen") for name in IMAGE_METHODS] + [("lora", name) for name in TEXT_METHODS],
)
@pytest.mark.usefixtures("small")
def test_the_loss_and_every_gradient_are_those_of_the_whole_batch(
    image: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = [{"method": name, **SMALL.get(name, {})} for name in (image, text)]
    whole, cut = (recogniser(*sides, optimizations=Optimizations(chunks=switch)) for switch in (False, True))
    counts = seen_at_once(monkeypatch)
    plain, expected = step(whole, batch())
    loss, found = step(cut, batch())
    assert counts == [5, 2, 2, 1]
    torch.testing.assert_close(loss, plain)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_so_they_are_of_kept_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = towers.image_tower()
    tokens = tower.special_tokens + (towers.SIZE // tower.patch_size) ** 2
    monkeypatch.setattr(chunked, "LARGEST", 2 * FRAMES * tokens * tower.widest * 4)
    image = {"method": "lora", "layers": [1]}
    counts = seen_at_once(monkeypatch)
    results = []
    for switch in (False, True):
        model = recogniser(image, optimizations=Optimizations(chunks=switch))
        with torch.no_grad():
            kept = model.frame_encoder.frozen_prefix(batch()["video"])
        results.append((kept, *step(model, {"features": kept, "label": batch()["label"]})))
    assert counts == [5, 5, *(5 * [1]), 2, 2, 1], "pixels take more room than tokens"
    (kept, plain, expected), (kept_in_chunks, loss, found) = results
    torch.testing.assert_close(kept_in_chunks, kept)
    torch.testing.assert_close(loss, plain)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.usefixtures("small")
def test_under_autocast_only_rounding_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = seen_at_once(monkeypatch)
    results = []
    for switch in (False, True):
        model = recogniser("dora", "coop", optimizations=Optimizations(chunks=switch))
        with torch.autocast("cpu", torch.bfloat16):
            results.append(step(model, batch()))
    assert counts == [5, 2, 2, 1]
    (plain, expected), (loss, found) = results
    torch.testing.assert_close(loss, plain, rtol=1e-2, atol=1e-2)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32, name
        assert (found[name] - gradient).norm() <= 0.05 * gradient.norm() + 1e-4, name


@pytest.mark.usefixtures("small")
def test_without_gradients_only_the_outputs_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, model = recogniser("dora", optimizations=Optimizations(chunks=False)), recogniser("dora")
    video = batch()["video"]
    with torch.no_grad():
        expected = plain(video)
        counts = seen_at_once(monkeypatch)
        torch.testing.assert_close(model(video), expected, rtol=1e-5, atol=1e-5)
    assert counts == [2, 2, 1]
    counts.clear()
    torch.testing.assert_close(model(video), expected, rtol=1e-5, atol=1e-5)
    assert counts == [5], "whoever wants gradients of the logits themselves gets one graph"


@pytest.mark.usefixtures("small")
def test_only_one_portion_is_kept_for_the_gradients() -> None:
    """The most that is alive at once, counted where autograd packs and lets go of tensors."""
    most = {}
    for switch in (False, True):
        model = recogniser("lora", optimizations=Optimizations(chunks=switch))
        alive, peak = [0], [0]

        class Kept:
            def __init__(self, tensor: Tensor, alive: list[int] = alive, peak: list[int] = peak) -> None:
                self.tensor, self.alive = tensor, alive
                alive[0] += tensor.numel()
                peak[0] = max(peak[0], alive[0])

            def __del__(self) -> None:
                self.alive[0] -= self.tensor.numel()

        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            step(model, batch())
        most[switch] = peak[0]
    assert most[True] < 0.6 * most[False]


def test_as_many_clips_as_keep_the_largest_tensor_below_the_limit() -> None:
    cpu, vit_s = torch.device("cpu"), {"numbers": 8 * 257 * 1536, "pixels": 8 * 3 * 224 * 224, "dtype": torch.float32}
    assert chunked.chunk_size(cpu, **vit_s) == 2
    with torch.autocast("cpu", torch.bfloat16):
        assert chunked.chunk_size(cpu, **vit_s) == 4
        assert chunked.chunk_size(cpu, **{**vit_s, "numbers": 1}) == 6, "pixels of one clip are 4.6 MiB"
    assert chunked.chunk_size(cpu, **{**vit_s, "numbers": 2**30}) == 1
    assert chunked.chunk_size(torch.device("cuda"), **vit_s) is None


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(3, [3]), (4, [4]), (5, [3, 2]), (13, [4, 3, 3, 3]), (17, [4, 4, 3, 3, 3]), (16, [4, 4, 4, 4])],
)
def test_chunks_are_of_nearly_one_size(count: int, sizes: list[int]) -> None:
    assert [len(part) for part in chunked.chunks(torch.zeros(count, 1), 4)] == sizes


def test_a_weight_that_one_portion_alone_uses_keeps_its_gradient() -> None:
    weight, clips = torch.tensor(3.0, requires_grad=True), torch.tensor([2.0, 5.0])
    base = torch.zeros(1, requires_grad=True)

    def loss_of(chunk: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        return (chunk.sum() * weight if chunk.item() == 2 else chunk.sum()) + 0 * classes.sum()

    chunked.chunked_loss(loss_of, clips, clips, base, [weight], 1).backward()
    assert weight.grad == 2


def test_frames_that_are_too_small_are_told_as_ever() -> None:
    with pytest.raises(MmfuseError, match="cannot be cut into"):
        recogniser()(torch.zeros(1, FRAMES, 3, 4, 4, dtype=torch.uint8))


TOUCHES = """
import resource, sys
from mmfuse.model.chunked import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def touch():
    blocks = [b"1" * (24 * 2**20 + each) for each in range(6)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks.clear()
    blocks = [b"2" * (24 * 2**20 + each) for each in range(6)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
touch()
print(touch())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_used_again_without_a_fault_of_any_page() -> None:
    """144 MiB are freed and taken again: pages that the system must clear once more are counted."""
    faults = {}
    for how in ("plain", "kept"):
        done = subprocess.run([sys.executable, "-c", TOUCHES, how], capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    if faults["plain"] < 1000:
        pytest.skip("the system gives pages so large that they cannot be counted")
    assert faults["kept"] < faults["plain"] / 10
