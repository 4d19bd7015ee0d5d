"""The supported architectures, by kind of tower and by what their checkpoints call themselves. No torch here."""

from __future__ import annotations

from pathlib import Path

from mmfuse.encoders import image_records, text_records, video_records
from mmfuse.encoders.architectures import Architecture, ImageArchitecture, TextArchitecture
from mmfuse.utils.files import parse_json

IMAGE: dict[str, ImageArchitecture] = {
    record.model_type: record for record in (*image_records.RECORDS, *video_records.RECORDS)
}
TEXT: dict[str, TextArchitecture] = {record.model_type: record for record in text_records.RECORDS}
TEXT_CHECKPOINTS = {name: record for record in TEXT.values() for name in record.checkpoints}
CHECKPOINTS: dict[str, dict[str, Architecture]] = {
    "image": {name: record for record in IMAGE.values() for name in record.checkpoints},
    "text": {**TEXT_CHECKPOINTS},
}
"""By kind of tower and `model_type` of a config.json, the record that reads it."""


def supported_families(kind: str) -> str:
    """What the supported architectures of a kind are called, in a sentence."""
    names = list(dict.fromkeys(name for record in CHECKPOINTS[kind].values() for name in record.family.split(", ")))
    return f"{', '.join(names[:-1])} or {names[-1]}"


def reading_revision(folder: Path, kind: str) -> int:
    """How often the way of reading such a checkpoint has changed its numbers; 0 where it never did, or is not known."""
    try:
        config = parse_json((folder / "config.json").read_bytes())
        record = CHECKPOINTS[kind].get(config["model_type"])
    except (KeyError, OSError, TypeError, ValueError):
        return 0
    return record.revision if isinstance(record, TextArchitecture) else 0
