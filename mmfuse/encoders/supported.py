"""The supported architectures, by kind of tower and by what their checkpoints call themselves. No torch here."""

from __future__ import annotations

from mmfuse.encoders import image_records, text_records, video_records
from mmfuse.encoders.architectures import Architecture, ImageArchitecture, TextArchitecture

IMAGE: dict[str, ImageArchitecture] = {
    record.model_type: record for record in (*image_records.RECORDS, *video_records.RECORDS)
}
TEXT: dict[str, TextArchitecture] = {record.model_type: record for record in text_records.RECORDS}
CHECKPOINTS: dict[str, dict[str, Architecture]] = {
    "image": {name: record for record in IMAGE.values() for name in record.checkpoints},
    "text": {name: record for record in TEXT.values() for name in record.checkpoints},
}
"""By kind of tower and `model_type` of a config.json, the record that reads it."""
