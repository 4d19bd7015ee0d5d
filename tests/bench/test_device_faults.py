"""What the texts of real errors mean."""

from __future__ import annotations

import pytest
import torch

from mmfuse.bench.device_faults import is_device_fault, out_of_memory
from mmfuse.errors import MmfuseError

MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15 GiB"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("XPU out of memory. Tried to allocate 1.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5.05 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    MemoryError(),
]
BEFORE_ANYTHING = [
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]
FAULTS = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA driver error: unknown error"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("HIP error: the operation cannot be performed in the present state"),
    RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:2251, unhandled cuda error, NCCL version 2.21.5"),
    RuntimeError("ncclUnhandledCudaError: Call to CUDA function failed."),
]
NEITHER = [
    MmfuseError("a CUDA error: it is said in a message of our own"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x3 and 2x2)"),
    RuntimeError("upsample_bicubic2d_backward_out_cuda does not have a deterministic implementation"),
    ValueError("no cuDNN here"),
]


@pytest.mark.parametrize("error", [*MEMORY, *BEFORE_ANYTHING, *FAULTS, *NEITHER], ids=lambda error: str(error)[:40])
def test_errors_are_told_by_their_texts(error: Exception) -> None:
    assert out_of_memory(error) is (error in MEMORY + BEFORE_ANYTHING)
    # A library that could not begin for lack of memory is tried with less of it, and at last in a fresh process.
    assert is_device_fault(error) is (error in FAULTS + BEFORE_ANYTHING)


def test_an_error_behind_another_counts() -> None:
    outer = RuntimeError("the loader stopped")
    outer.__cause__ = FAULTS[0]
    assert is_device_fault(outer)
    outer.__cause__ = outer
    assert not is_device_fault(outer)
