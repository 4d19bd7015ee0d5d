"""What errors of a device mean: too little memory, or a device that this process can use no more. No torch here.

Errors are told by their texts: torch raises plain RuntimeErrors for most of them, and a rank or a node tells its own in
words alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mmfuse.errors import MmfuseError

OUT_OF_MEMORY = re.compile(
    r"out of memory|out_of_(device|host|resources)\w*|(can't|cannot) allocate memory|not enough memory|OutOfMemory"
    # A library that finds no memory for its own workspace; the first handle of a process is where it is missed first.
    r"|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE|HIPBLAS)_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)",
    re.IGNORECASE,
)
FAULT = re.compile(
    r"\b(CUDA|HIP)( driver)? (error|failure)\b|\bAcceleratorError\b|device-side assert|illegal memory access"
    r"|\b(CUBLAS|CUDNN|CUSOLVER|CUSPARSE|CUFFT|CURAND|HIPBLAS|ROCBLAS)_STATUS_|\b(cuBLAS|cuDNN|cuSOLVER|MIOpen) error\b"
    r"|\bNCCL error\b|\bnccl\w+Error\b|\bmiopenStatus\w+|\bhipError\w+|\bUR_RESULT_ERROR_\w+",
)
"""What leaves a process with a device that answers every later call with the same error."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is too little memory, of the device or of this machine."""
    return isinstance(error, MemoryError) or any(OUT_OF_MEMORY.search(text) for text in _texts(error))


def is_device_fault(error: BaseException) -> bool:
    """Whether an error may leave its process without a usable device, so that the process must be replaced.

    Out of memory leaves it usable, but where a library could not even begin.
    """
    return any(FAULT.search(text) and not re.search(r"\bout of memory\b", text) for text in _texts(error))


def _texts(error: BaseException) -> Iterator[str]:
    """Kind and message of an error and of those behind it; our own words about a request are no error of a device."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if not isinstance(error, MmfuseError):
            yield f"{type(error).__name__}: {error}"
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
