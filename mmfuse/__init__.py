"""Few-shot action recognition with frozen image and text towers: which adaptation wins, by how much, at what cost."""

from importlib import import_module
from typing import TYPE_CHECKING

from mmfuse.errors import MmfuseError
from mmfuse.version import __version__

if TYPE_CHECKING:
    from mmfuse.bench.session import run_grid
    from mmfuse.data.datamodule import FewShotVideoDataModule
    from mmfuse.inference.predict import predict
    from mmfuse.methods.base import register
    from mmfuse.model.recognizer import ActionRecognizer
    from mmfuse.report.results import load_results

__all__ = [
    "ActionRecognizer",
    "FewShotVideoDataModule",
    "MmfuseError",
    "__version__",
    "load_results",
    "predict",
    "register",
    "run_grid",
]

_MODULES = {
    "ActionRecognizer": "mmfuse.model.recognizer",
    "FewShotVideoDataModule": "mmfuse.data.datamodule",
    "load_results": "mmfuse.report.results",
    "predict": "mmfuse.inference.predict",
    "register": "mmfuse.methods.base",
    "run_grid": "mmfuse.bench.session",
}


def __getattr__(name: str) -> object:
    # Imported on first use: the commands that plan, tabulate and report must answer without torch.
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'mmfuse' has no attribute {name!r}")
