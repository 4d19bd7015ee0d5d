"""Results in the schema of Every Eval Ever (EvalEval Coalition), version 0.3.0: one file a data set, split and pair.

Each number of shots has its mean over draws with the interval of the tables, and the result of each draw.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from mmfuse.errors import MmfuseError
from mmfuse.records.cell import flattened
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.record import Record
from mmfuse.records.status import Entry
from mmfuse.report.export.evaleval_schema import check_document
from mmfuse.report.export.source import Context, Exported, Line, RowOf, rows_of, slug
from mmfuse.utils.files import sha256_of_json
from mmfuse.utils.portable import last_part, portable_command

SCHEMA_VERSION = "0.3.0"
CONFIDENCE = 0.95
METRICS: dict[str, tuple[str, str, dict[str, int]]] = {
    "top1": ("accuracy", "Top-1 accuracy", {"k": 1}),
    "top5": ("top_5_accuracy", "Top-5 accuracy", {"k": 5}),
    "mean_class": ("mean_class_accuracy", "Mean-class accuracy", {}),
}
"""Identifier, name and parameters of each accuracy."""


def export_evaleval(entries: list[Entry], folder: ResultsFolder, context: Context) -> Exported:
    """The files of a results folder, checked against the schema.

    Raises:
        MmfuseError: nobody is named as who ran it, or there is no finished cell.
    """
    if not context.organization:
        raise MmfuseError("the schema of Every Eval Ever asks for who ran the evaluation: --organization NAME")
    files: dict[str, str] = {}
    left_out: list[str] = []
    for row in rows_of(entries, folder):
        left_out += row.left_out
        if row.done:
            document = _document(row, context, context.organization)
            check_document(document)
            files[_place(document, row)] = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if not files:
        raise MmfuseError(f"{folder.path} holds no finished cell to export; run its grid again")
    return Exported(files, tuple(left_out))


def _document(row: RowOf, context: Context, organization: str) -> dict[str, Any]:
    records = [record for _, record in row.done]
    finished = [record.provenance.finished for record in records if record.provenance.finished]
    versions = {record.provenance.versions.get("mmfuse") for record in records} - {None}
    model = _model(row, organization)
    collection = slug(f"{row.group.dataset}-split-{row.group.split}")
    source: dict[str, Any] = {
        "source_name": "mmfuse",
        "source_type": "evaluation_run",
        "source_organization_name": organization,
        # Who runs a grid trains and tests its models.
        "evaluator_relationship": "first_party",
    }
    if context.organization_url:
        source["source_organization_url"] = context.organization_url
    epoch = f"{context.now.timestamp():.0f}"
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{collection}/{model['id']}/{epoch}",
        "retrieved_timestamp": epoch,
        "source_metadata": source,
        "model_info": model,
        "eval_library": {"name": "mmfuse", "version": ", ".join(sorted(map(str, versions))) or "unknown"},
        "evaluation_results": [*_means(row, context), *_draws(row, context)],
    }
    if finished:
        document["evaluation_timestamp"] = max(finished)
    if row.left_out:
        details = {f"left out {at}": line for at, line in enumerate(row.left_out, start=1)}
        document["source_metadata"] = {**source, "additional_details": details}
    return document


def _model(row: RowOf, organization: str) -> dict[str, Any]:
    """The pair on its towers; no such model has to be on any hub."""
    cell = row.entries[0].cell
    towers = {"image_tower": last_part(cell.encoders.image), "text_tower": last_part(cell.encoders.text)}
    if not cell.encoders.image.startswith("/"):
        towers["image_tower"] = cell.encoders.image
    if not cell.encoders.text.startswith("/"):
        towers["text_tower"] = cell.encoders.text
    named = "-".join([row.name, *(last_part(name) for name in towers.values())])
    settings = flattened({key: value for key, value in cell.replicate_settings.items() if key in ("pair", "fusion")})
    return {
        "name": row.name,
        "id": f"{slug(organization)}/{slug(named)}",
        "additional_details": {
            "deployment_type": "self_deployed",
            "model_availability": "unknown",
            **towers,
            **{key: _text(value) for key, value in settings.items()},
        },
    }


def _means(row: RowOf, context: Context) -> Iterator[dict[str, Any]]:
    """For each metric and number of shots, what stands in the tables."""
    gains = {(line.metric, line.shots): line for line in row.gains}
    for line in row.accuracies:
        cell = next(entry.cell for entry in row.entries if str(entry.cell.shots) == line.shots)
        settings = flattened({k: v for k, v in cell.replicate_settings.items() if k not in ("pair", "fusion")})
        yield {
            "evaluation_result_id": f"k{line.shots}-{line.metric}-mean",
            "evaluation_name": f"{row.group.dataset}, split {row.group.split}, K={line.shots}: mean over draws",
            "source_data": _source_data(row, context),
            "metric_config": _metric(line.metric),
            "score_details": _score(line, gains.get((line.metric, line.shots)), row),
            "generation_config": {"additional_details": {key: _text(value) for key, value in settings.items()}},
        }


def _score(line: Line, gain: Line | None, row: RowOf) -> dict[str, Any]:
    """A mean with its interval over draws, and how the tables compare it with the baseline."""
    told: Any = line.told
    score: dict[str, Any] = {"score": told["mean"] / 100}
    details = {"draws": str(told["n"]), "draws_planned": str(told["planned"]), "state": str(told["state"])}
    if told["half_width_clips"] is not None:
        details["half_width_over_test_clips"] = f"{told['half_width_clips'] / 100:.6f}"
    if told["best"] or told["tie"]:
        details["mark"] = "highest of its column" if told["best"] else "not shown to be below the best of its column"
    if gain is not None:
        more: Any = gain.told
        details["gain_in_points"] = f"{more['mean']:+.4f}"
        details["gain_over"] = str(row.group.baseline)
        for key, name in (("half_width", "gain_half_width"), ("p_holm", "gain_p_holm"), ("verdict", "gain_mark")):
            if more[key] is not None:
                details[name] = _text(more[key])
    if line.metric == "top1" and line.shots in row.verdicts:
        details["verdict"] = row.verdicts[line.shots]
    if told["half_width"] is not None:
        score["uncertainty"] = {
            "confidence_interval": {
                "lower": told["low"] / 100,
                "upper": told["high"] / 100,
                "confidence_level": CONFIDENCE,
                "method": "Student's t over draws",
            },
            "num_samples": told["n"],
        }
    return {**score, "details": details}


def _draws(row: RowOf, context: Context) -> Iterator[dict[str, Any]]:
    """The result of each finished cell."""
    for entry, record in row.done:
        for metric in METRICS:
            value = None if record.metrics is None else getattr(record.metrics, metric)
            if value is not None:
                yield _of_cell(row, entry, record, metric, value, context)


def _of_cell(row: RowOf, entry: Entry, record: Record, metric: str, value: float, context: Context) -> dict[str, Any]:
    axes = entry.cell.axes
    details = {"shots": str(axes.shots), "draw": str(axes.draw), "seed": str(axes.seed), "record": record.identity}
    if record.metrics is not None:
        details |= {"test_clips": str(record.metrics.test_clips), "train_clips": str(record.metrics.train_clips)}
    found: dict[str, Any] = {
        "evaluation_result_id": f"k{axes.shots}-{metric}-draw{axes.draw}-seed{axes.seed}",
        "evaluation_name": f"{row.group.dataset}, split {row.group.split}, K={axes.shots}: draw {axes.draw}",
        "source_data": _source_data(row, context),
        "metric_config": _metric(metric),
        "score_details": {"score": value, "details": details},
    }
    if record.provenance.finished:
        found["evaluation_timestamp"] = record.provenance.finished
    if record.command:
        found["generation_config"] = {"generation_args": {"execution_command": portable_command(record.command)}}
    return found


def _metric(metric: str) -> dict[str, Any]:
    identifier, name, parameters = METRICS[metric]
    return {
        "metric_id": identifier,
        "metric_name": name,
        "metric_kind": "accuracy",
        "metric_unit": "proportion",
        "metric_parameters": parameters,
        "lower_is_better": False,
        "score_type": "continuous",
        "min_score": 0,
        "max_score": 1,
    }


def _source_data(row: RowOf, context: Context) -> dict[str, Any]:
    cell = row.group.shown or row.entries[0].cell
    facts = None if cell.dataset.own else context.facts.get(cell.dataset.name)
    digests = {record.inputs.test_clips for _, record in row.done} - {None} if row.group.main else set()
    details = {"tested_on": row.group.dataset, "split": str(row.group.split), "part": "test"}
    if len(digests) == 1:
        details["sha256_of_test_list"] = str(digests.pop())
    certified = {record.provenance.certified for _, record in row.done}
    if row.group.main and len(certified) == 1 and None not in certified:
        details["certified"] = _text(certified.pop())
    told: dict[str, Any] = {"dataset_name": cell.dataset.name if facts is None else facts.title}
    if facts is not None and facts.addresses:
        return {**told, "source_type": "url", "url": list(facts.addresses), "additional_details": details}
    return {**told, "source_type": "other", "additional_details": details}


def _place(document: dict[str, Any], row: RowOf) -> str:
    """Where the file lies: data/<collection>/<developer>/<model>/<uuid>.json, named by what is in it."""
    content = {key: value for key, value in document.items() if key not in ("retrieved_timestamp", "evaluation_id")}
    name = uuid.UUID(bytes=bytes.fromhex(sha256_of_json(content))[:16], version=4)
    collection = slug(f"{row.group.dataset}-split-{row.group.split}")
    return f"data/{collection}/{document['model_info']['id']}/{name}.json"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
