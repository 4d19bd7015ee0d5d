"""Few-shot action recognition with frozen image and text towers: which adaptation wins, by how much, at what cost."""

from typing import TYPE_CHECKING

from mmfuse.version import __version__

if TYPE_CHECKING:
    from mmfuse.data.datamodule import FewShotVideoDataModule
    from mmfuse.model.recognizer import ActionRecognizer

__all__ = ["ActionRecognizer", "FewShotVideoDataModule", "__version__"]


def __getattr__(name: str) -> object:
    # Imported on first use: the commands that plan, tabulate and report must answer without torch.
    if name == "ActionRecognizer":
        from mmfuse.model.recognizer import ActionRecognizer

        return ActionRecognizer
    if name == "FewShotVideoDataModule":
        from mmfuse.data.datamodule import FewShotVideoDataModule

        return FewShotVideoDataModule
    raise AttributeError(f"module 'mmfuse' has no attribute {name!r}")
