"""What the sweep of `tests.gpu.pretended` must not find."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
import torch

WITHOUT_DETERMINISTIC_FORM = {
    "AvgPool3d": ["avg_pool3d_backward"],
    "AdaptiveAvgPool2d": ["_adaptive_avg_pool2d_backward"],
    "AdaptiveAvgPool3d": ["_adaptive_avg_pool3d_backward"],
    "AdaptiveMaxPool2d": ["adaptive_max_pool2d_backward"],
    "FractionalMaxPool2d": ["fractional_max_pool2d_backward"],
    "FractionalMaxPool3d": ["fractional_max_pool3d_backward"],
    "MaxUnpool1d": ["max_unpool2d"],
    "MaxUnpool2d": ["max_unpool2d"],
    "MaxUnpool3d": ["max_unpool3d"],
    "interpolate": [
        "upsample_linear1d_backward",
        "upsample_bilinear2d_backward",
        "_upsample_bilinear2d_aa_backward",
        "upsample_bicubic2d_backward",
        "_upsample_bicubic2d_aa_backward",
        "upsample_trilinear3d_backward",
    ],
    "ReflectionPad1d": ["reflection_pad1d_backward"],
    "ReflectionPad2d": ["reflection_pad2d_backward"],
    "ReflectionPad3d": ["reflection_pad3d_backward"],
    "NLLLoss": ["nll_loss2d_forward", "nll_loss2d_backward"],  # of images; that of classes has one
    "CTCLoss": ["_ctc_loss_backward", "_cudnn_ctc_loss"],
    "EmbeddingBag": ["_embedding_bag_backward"],
    "put_": ["put_"],
    "histc": ["histc"],
    "bincount": ["bincount"],
    "median": ["median", "nanmedian"],
    "grid_sample": ["grid_sampler_2d_backward", "grid_sampler_3d_backward"],
    "cumsum": ["cumsum"],
    "scatter_reduce": ["scatter_reduce"],
    "resize_": [],  # of quantised tensors, of which there are none
}
"""By the names in torch's documentation of `use_deterministic_algorithms`."""
ASKS_THE_DEVICE = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "_linalg_check_errors"}
"""Operators that wait for all that was begun; most of them cannot be run without values at all."""


@pytest.fixture(scope="module")
def swept() -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.gpu.pretended"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def raising() -> set[str]:
    return {operator for operators in WITHOUT_DETERMINISTIC_FORM.values() for operator in operators}


def test_every_method_tower_and_fusion_keeps_to_one_device_and_never_waits_for_it(swept: dict[str, Any]) -> None:
    assert {name: case["error"] for name, case in swept["cases"].items() if case["error"]} == {}
    asking = {name: ASKS_THE_DEVICE & {*case["operators"]} for name, case in swept["cases"].items()}
    assert {name: operators for name, operators in asking.items() if operators} == {}
    mixed, asked, counted = swept["controls"]["refused"]
    assert (mixed, asked, counted) == (
        "FakeTensorDeviceMismatchError",
        "DataDependentOutputException",
        "DynamicOutputShapeException",
    )


def test_no_operator_lacks_a_deterministic_form(swept: dict[str, Any]) -> None:
    found = {name: raising() & {*case["operators"]} for name, case in swept["cases"].items()}
    assert {name: operators for name, operators in found.items() if operators} == {}
    control = raising() & {*swept["controls"]["operators"]}
    assert control == {"upsample_bicubic2d_backward", "_adaptive_avg_pool2d_backward"}


def test_torch_names_no_other_operator_without_a_deterministic_form() -> None:
    told = torch.use_deterministic_algorithms.__doc__ or ""
    [listed] = re.findall(
        r"will throw a\s+:class:`RuntimeError` when ``mode=True``:\n(.*?)\n\n    In addition", told, re.S
    )
    named = {name.split(".")[-1] for name in re.findall(r"^        \* :\w+:`([\w.]+)`", listed, re.M)}
    assert named == {*WITHOUT_DETERMINISTIC_FORM}


KERNELS_AND_CASTS = {
    "lora+frozen": {"forward": (290, 95), "backward": (233, 48), "optimizer": (8, 0), "frozen": (68, 31)},
    "dora+adapter": {"forward": (366, 115), "backward": (377, 74), "optimizer": (14, 0), "frozen": (68, 31)},
}
"""Most that a step may launch on two layers, and how many of these may do nothing but change a type.

A change that needs fewer lowers them: a budget that nothing comes near finds nothing.
"""


@pytest.mark.parametrize("pair", KERNELS_AND_CASTS)
def test_a_step_keeps_to_its_budget_of_kernels(swept: dict[str, Any], pair: str) -> None:
    found = {phase: (int(told["kernels"]), int(told["casts"])) for phase, told in swept["counts"][pair].items()}
    assert found == KERNELS_AND_CASTS[pair]
