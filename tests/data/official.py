"""The official annotation files, where they are available, and stand-ins for the videos they list."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmfuse.data.catalogue.load import Catalogue

_NEAR = Path(__file__).resolve().parents[3] / "shared" / "annotations"
ANNOTATIONS = Path(os.environ.get("MMFUSE_ANNOTATIONS", _NEAR))

needs_official_lists = pytest.mark.skipif(
    not ANNOTATIONS.is_dir(), reason="the official annotation files are not available (MMFUSE_ANNOTATIONS names them)"
)

SPLITS = [("ucf101", 1), ("ucf101", 2), ("ucf101", 3), ("hmdb51", 1), ("diving48", 1)]


def lay_out(catalogue: Catalogue, root: Path, video: Path) -> Path:
    """Put a link to `video` under the published path of every clip."""
    for path in catalogue.table["path"]:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(video)
    return root
