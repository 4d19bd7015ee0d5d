"""A draw, or the lists of a data set, as Croissant metadata (MLCommons, 1.0, with core RAI fields) beside a CSV.

What is not known, such as the licence of somebody's own clips, is left out.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mmfuse.errors import MmfuseError, one_line
from mmfuse.report.export.source import Exported, slug
from mmfuse.version import __version__

COLUMNS = ("clip", "label", "class", "group", "part")
KINDS = {"label": "sc:Integer"}
MEANINGS = {
    "clip": "Name of the clip in the data set.",
    "label": "Number of the class, from 0.",
    "class": "Name of the class.",
    "group": "Source that the clip was cut from; clips of one source resemble each other.",
    "part": "train or test.",
}
CSV_NAME, METADATA = "clips.csv", "croissant.json"
CONFORMS_TO = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        word: f"cr:{word}"
        for word in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet"),
            *("format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
            *("references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField"),
            "transform",
        )
    },
}
"""The words of Croissant 1.0."""


@dataclass(frozen=True)
class Described:
    """What is told of a list of clips.

    Args:
        name: of the list, such as `ucf101-split-1-k4-draw-0`.
        title: of the data set.
        description: what the list holds, in words.
        collection: how clips and lists came about.
        limitations: what the list is not good for.
        sensitive: what it holds or shows of people.
        licence: of the data set, as its authors say it; empty where it is not known.
        citation: of the data set, in BibTeX; empty where it is not known.
        address: where the data set is published.
    """

    name: str
    title: str
    description: str
    collection: str
    limitations: tuple[str, ...]
    sensitive: str
    licence: str = ""
    citation: str = ""
    address: str = ""


def export_croissant(rows: Sequence[Mapping[str, Any]], told: Described, *, now: datetime) -> Exported:
    """A CSV of clips and its Croissant metadata, read again by mlcroissant and compared.

    Args:
        rows: one a clip, with the keys of `COLUMNS`.
        told: what is known of them.
        now: the day of publication.

    Raises:
        MmfuseError: mlcroissant is not installed, or it reads something else than was written.
    """
    table = _as_csv(rows)
    metadata = _metadata(
        rows, told, digest=hashlib.sha256(table.encode()).hexdigest(), size=len(table.encode()), now=now
    )
    files = {METADATA: json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", CSV_NAME: table}
    return Exported(files, tuple(_check(files, rows)))


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([row[column] for column in COLUMNS] for row in rows)
    return text.getvalue()


def _metadata(
    rows: Sequence[Mapping[str, Any]], told: Described, *, digest: str, size: int, now: datetime
) -> dict[str, Any]:
    known = {
        "license": told.licence,
        "citeAs": told.citation,
        "url": told.address,
        "rai:personalSensitiveInformation": told.sensitive,
    }
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": slug(told.name),
        "description": told.description,
        "version": __version__,
        "datePublished": now.date().isoformat(),
        **{key: value for key, value in known.items() if value},
        "rai:dataCollection": told.collection,
        "rai:dataBiases": _biases(rows),
        "rai:dataLimitations": list(told.limitations),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": CSV_NAME,
                "name": CSV_NAME,
                "description": "One line a clip.",
                "contentUrl": CSV_NAME,
                "contentSize": f"{size} B",
                "encodingFormat": "text/csv",
                "sha256": digest,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "clips",
                "name": "clips",
                "description": told.description,
                "field": [_field(column) for column in COLUMNS],
            }
        ],
    }


def _field(column: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"clips/{column}",
        "name": column,
        "description": MEANINGS[column],
        "dataType": KINDS.get(column, "sc:Text"),
        "source": {"fileObject": {"@id": CSV_NAME}, "extract": {"column": column}},
    }


def _biases(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What can be counted: how evenly classes and sources stand in each part."""
    found = []
    for part in dict.fromkeys(row["part"] for row in rows):
        members = [row for row in rows if row["part"] == part]
        classes, sources = Counter(row["class"] for row in members), len({row["group"] for row in members})
        few, many = min(classes.values()), max(classes.values())
        each = f"{few}" if few == many else f"{few} to {many}"
        found.append(
            f"{part}: {len(members):,} clips of {len(classes)} classes, {each} a class, from {sources:,} sources; "
            "clips of one source resemble each other and are no independent evidence."
        )
    return found


def _check(files: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What mlcroissant warns of, after it has read all records as they are.

    Raises:
        MmfuseError: it is not installed, finds a fault, or reads other records.
    """
    try:
        import mlcroissant
    except ImportError:
        raise MmfuseError("--to croissant needs mlcroissant: pip install 'mmfuse[share]'") from None
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(content, encoding="utf-8", newline="")
        try:
            dataset = mlcroissant.Dataset(jsonld=str(Path(folder) / METADATA))
            read = [{key.rpartition("/")[2]: value for key, value in one.items()} for one in dataset.records("clips")]
        except Exception as error:  # of any of the libraries that it reads with
            raise MmfuseError(f"mlcroissant does not read what was written: {one_line(error)}") from error
    for row, again in zip(rows, read, strict=True):
        for column in COLUMNS:
            value = again[column].decode() if isinstance(again[column], bytes) else again[column]
            if value is None or str(value) != str(row[column]):
                raise MmfuseError(
                    f"mlcroissant reads the {column} {str(row[column])!r:.80} of {row['clip']!r:.80} as "
                    f"{str(value)!r:.80}; rename it, since others would read it so too"
                )
    return [f"mlcroissant: {one_line(warning)}" for warning in sorted(dataset.metadata.ctx.issues.warnings)]
