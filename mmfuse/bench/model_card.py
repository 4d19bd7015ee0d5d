"""The model card of a checkpoint: the README.md that makes its folder a model of the Hugging Face hub.

It is made of the checkpoint's description and of the record of its training, and of nothing else: the same training
gives the same card, no network is asked, and no path of the machine and no name of its user stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from mmfuse.data.catalogue.cards import DataCard, card_names, load_card
from mmfuse.methods.registry import METHODS
from mmfuse.model.description import DESCRIPTION, SIDES, WEIGHTS
from mmfuse.records.cell import WITHOUT_TEXT, Cell
from mmfuse.records.record import Metrics, Record
from mmfuse.utils.portable import is_hub_id, last_part, portable_command

CARD = "README.md"
TASK = "video-classification"
ACCURACIES = {"top1": "Top-1 accuracy", "top5": "Top-5 accuracy", "mean_class": "Mean-class accuracy"}


def model_card(
    description: Mapping[str, Any],
    record: Record | None = None,
    *,
    files: Collection[str] = (),
    licence: str | None = None,
) -> str:
    """The card as text: a block of metadata, then what a reader has to know.

    Args:
        description: what the checkpoint says of itself (`recognizer.json`).
        record: of its training; without one the card tells of no result.
        files: names of the checkpoint's files, which tell whether there are adapters of peft.
        licence: identifier of the licence, such as `apache-2.0`; where it is not known none is stated.
    """
    data = _metadata(description, record, files, licence)
    body = "\n".join(_body(description, record, files, licence))
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))


def _metadata(
    description: Mapping[str, Any], record: Record | None, files: Collection[str], licence: str | None
) -> ModelCardData:
    """The block that the hub reads. What is not known is left out: the hub refuses nulls and paths."""
    methods = _methods(description)
    towers = [description["towers"][side]["name"] for side in SIDES]
    bases = list(dict.fromkeys(name for name in towers if is_hub_id(name)))
    more: dict[str, Any] = {}
    if bases:
        more["base_model"] = bases[0] if len(bases) == 1 else bases
        more["base_model_relation"] = "finetune" if "full" in methods.values() else "adapter"
    if record is not None:
        results = list(_results(record))
        more |= {"metrics": ["accuracy"], "model_name": record.name, "eval_results": results}
        datasets = [name for name in dict.fromkeys(result.dataset_type for result in results) if _known(name)]
        more |= {"datasets": datasets} if datasets else {}
    adapted = [name for name in dict.fromkeys(methods.values()) if name != "frozen"]
    tags = ["mmfuse", "action-recognition", "few-shot", *(["peft"] if _adapters(files) else []), *adapted]
    return ModelCardData(library_name="mmfuse", pipeline_tag=TASK, tags=tags, license=licence, **more)


def _known(dataset: str) -> DataCard | None:
    """The card of a data set that others publish, where it is one."""
    card = load_card(dataset) if dataset in card_names() else None
    return None if card is None or card.generated else card


def _results(record: Record) -> Iterator[EvalResult]:
    """One entry for each test of the record and each accuracy."""
    cell = record.cell
    dataset = "" if cell.dataset.own else cell.dataset.name
    if record.metrics is not None:
        base = "base" if cell.setting == "base-to-novel" else None
        yield from _of_test(record, record.metrics, name=cell.dataset.name, kind=dataset, split=cell.split, test=base)
    targets = {target.name for target in cell.test_on if not target.own}
    for label, test in (record.evaluations or {}).items():
        public = test.dataset if test.dataset in targets or test.dataset == dataset else ""
        yield from _of_test(record, test.metrics, name=test.dataset, kind=public, split=test.split, test=label)


def _of_test(
    record: Record, metrics: Metrics, *, name: str, kind: str, split: int, test: str | None = None
) -> Iterator[EvalResult]:
    cell = record.cell
    card = _known(kind)
    told: dict[str, Any] = {
        "setting": cell.setting,
        "shots": cell.shots,
        "draw": cell.draw,
        "seed": cell.seed,
        "test": test,
    }
    told |= {"trained_on": cell.dataset.name, "protocol": cell.dataset.protocol, "test_clips": metrics.test_clips}
    if test is None:
        told |= {"train_list": record.inputs.train_clips, "test_list": record.inputs.test_clips}
        told["certified"] = record.provenance.certified
    if record.test_views is not None:
        told["views"] = str(record.test_views)
    for metric, title in ACCURACIES.items():
        value = getattr(metrics, metric)
        if value is not None:
            yield EvalResult(
                task_type=TASK,
                task_name="Action recognition",
                dataset_type=kind or re.sub(r"[^\w.-]+", "-", name).strip("-") or "own",
                dataset_name=name if card is None else card.title,
                dataset_config=f"split-{split}" + (f"-{_slug(test)}" if test else ""),
                dataset_split="test",
                dataset_args={key: known for key, known in told.items() if known is not None},
                metric_type="accuracy",
                metric_name=f"{title} ({metric})",
                metric_config=metric,
                metric_value=round(value, 6),
            )


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def _methods(description: Mapping[str, Any]) -> dict[str, str]:
    """The name of the method on each tower; a class of one's own may have none."""
    said = {side: description["arguments"].get(f"{side}_method", "frozen") for side in SIDES}
    return {side: str(one.get("method") if isinstance(one, Mapping) else one) for side, one in said.items()}


def _adapters(files: Collection[str]) -> list[str]:
    return [side for side in SIDES if f"peft-{side}/adapter_config.json" in files]


# -- what is written for people ---------------------------------------------------------------------------------------


def _body(
    description: Mapping[str, Any], record: Record | None, files: Collection[str], licence: str | None
) -> Iterator[str]:
    yield from _summary(description, record)
    yield from _use(description, files)
    if record is not None:
        yield from _result_table(record)
    yield from _making(description, record)
    yield from _file_table(description, files)
    yield from _classes(description)
    if record is not None:
        yield from _certified(record)
    yield from _limits(description, record, licence)


def _summary(description: Mapping[str, Any], record: Record | None) -> Iterator[str]:
    methods = _methods(description)
    title = f"{methods['image']}+{methods['text']}" if record is None else record.cell.pair.name
    on = "" if record is None else f" on {_title(record.cell)}, {_shots(record.cell)}"
    yield f"# {_plain(title + on)}"
    yield ""
    towers = [
        f"the {side} tower {_tower(description, side)} "
        + ("as it was pretrained" if methods[side] == "frozen" else f"adapted by `{methods[side]}`")
        for side in SIDES
    ]
    yield (
        f"An action recogniser for video, made with mmfuse: {towers[0]} and {towers[1]}, joined by a small fusion. The "
        "files hold the trained weights; the towers are loaded by name."
    )
    yield ""


def _tower(description: Mapping[str, Any], side: str) -> str:
    name = description["towers"][side]["name"]
    if is_hub_id(name):
        return f"[{name}](https://huggingface.co/{name})"
    return f"`{last_part(name)}`"


def _title(cell: Cell) -> str:
    card = None if cell.dataset.own else _known(cell.dataset.name)
    return cell.dataset.name if card is None else card.title


def _shots(cell: Cell) -> str:
    return "all training clips" if cell.shots == "all" else f"{cell.shots} training clips a class"


def _use(description: Mapping[str, Any], files: Collection[str]) -> Iterator[str]:
    yield "## Use"
    yield ""
    yield from ("```python", "from mmfuse import ActionRecognizer, predict", "")
    local = [side for side in SIDES if PurePath(description["towers"][side]["name"]).is_absolute()]
    given = "".join(f", {side}_encoder=FOLDER" for side in local)
    yield f"model = ActionRecognizer.from_checkpoint(REPOSITORY{given})  # owner/name on the hub, or a folder"
    yield 'print(predict(model, "video.mp4")[0])'
    yield "```"
    yield ""
    if not local:
        yield "On the command line: `mmfuse predict REPOSITORY video.mp4`."
        yield ""
    adapters = _adapters(files)
    if adapters:
        yield "The adapters alone, for the towers as `transformers` loads them:"
        yield ""
        yield from ("```python", "from peft import PeftModel", "")
        yield from (
            f'{side} = PeftModel.from_pretrained({side}_tower, REPOSITORY, subfolder="peft-{side}")'
            for side in adapters
        )
        yield from ("```", "")


def _result_table(record: Record) -> Iterator[str]:
    told = [("", record.cell.dataset.name, record.metrics)]
    told += [(label, test.dataset, test.metrics) for label, test in (record.evaluations or {}).items()]
    yield "## Results"
    yield ""
    yield "| test | top-1 | top-5 | mean-class | test clips |"
    yield "|:--|--:|--:|--:|--:|"
    for label, dataset, metrics in told:
        if metrics is not None:
            values = [getattr(metrics, name) for name in ACCURACIES]
            shown = " | ".join("" if value is None else f"{100 * value:.1f}%" for value in values)
            name = dataset if not label or label == dataset else f"{dataset} ({label})"
            yield f"| {_plain(name)} | {shown} | {metrics.test_clips:,} |"
    yield ""
    yield (
        "Measured once, after the last epoch, on the whole test list; nothing was selected on it. This is one training "
        "on one draw of clips, so there is no interval."
    )
    yield ""


def _making(description: Mapping[str, Any], record: Record | None) -> Iterator[str]:
    arguments = description["arguments"]
    yield "## How it was made"
    yield ""
    yield "| | |"
    yield "|:--|:--|"
    rows: list[tuple[str, Any]] = []
    for side in SIDES:
        tower = description["towers"][side]
        rows.append((f"{side} tower", f"{_tower(description, side)}, fingerprint `{tower['fingerprint'][:12]}`"))
        rows.append((f"{side} method", _method(arguments.get(f"{side}_method", "frozen"))))
    rows.append(("fusion", _settings(arguments.get("fusion"))))
    if record is not None:
        rows += _of_training(record)
    rows.append(("mmfuse", description.get("mmfuse")))
    for key, value in rows:
        if value not in (None, ""):
            yield f"| {key} | {_cell(value)} |"
    yield ""
    if record is not None and record.command:
        yield "The command that trains it again, without the places of data and results:"
        yield ""
        yield from ("```bash", portable_command(record.command), "```", "")


def _of_training(record: Record) -> list[tuple[str, Any]]:
    cell = record.cell
    clips = None if record.metrics is None else record.metrics.train_clips
    trained = None if record.parameters is None else record.parameters.model_dump()
    rows: list[tuple[str, Any]] = [
        ("data", f"{_plain(_title(cell))}, split {cell.split}"),
        ("training clips", f"{_shots(cell)}, draw {cell.draw}" + ("" if clips is None else f" ({clips:,} clips)")),
        ("setting", cell.setting),
        ("published lists", cell.dataset.protocol),
        ("seed", cell.seed),
    ]
    if cell.shots != 0:
        rows.append(("epochs, batch", f"{cell.train.epochs}, {cell.train.batch_size} clips"))
    if record.test_views is not None:
        views = f"{record.test_views} (frames×clips×crops) of {record.test_views.size} pixels"
        rows.append(("seen of a test video", views))
    if trained is not None:
        rows.append(("trained weights", ", ".join(f"{part.replace('_', ' ')} {n:,}" for part, n in trained.items())))
    rows.append(("precision", record.provenance.precision))
    versions = record.provenance.versions
    told = [f"{name} {versions[name]}" for name in ("torch", "transformers", "peft") if name in versions]
    return [*rows, ("versions", ", ".join(told))]


def _method(said: Any) -> str:
    name = str(said.get("method") if isinstance(said, Mapping) else said)
    info = METHODS.get(name)
    source = f" ({info.paper})" if info is not None and info.paper else ""
    return _settings(said) + source


def _settings(said: Any) -> str:
    """A method or fusion with its arguments: `lora, rank 8`."""
    if not isinstance(said, Mapping):
        return "" if said is None else f"`{_plain(str(said))}`"
    named = [str(said[key]) for key in ("method", "kind") if key in said]
    rest = [f"{key} {value}" for key, value in said.items() if key not in ("method", "kind")]
    return _plain(", ".join([*(f"`{name}`" for name in named), *rest]))


def _file_table(description: Mapping[str, Any], files: Collection[str]) -> Iterator[str]:
    yield "## Files"
    yield ""
    numbers = f"{description.get('trained_weights', 0):,} numbers"
    yield f"- `trained.safetensors`: the trained weights, {numbers}; nothing is pickled"
    yield "- `recognizer.json`: towers by name and fingerprint, methods, fusion, classes, and how frames are taken"
    adapters = _adapters(files)
    for side, method in _methods(description).items():
        if side in adapters:
            yield f"- `peft-{side}`: the {side} tower's `{method}` as an adapter of peft"
        elif method != "frozen":
            yield (
                f"- The {side} tower's `{method}` is no configuration of peft, so it is in `trained.safetensors` alone "
                "and is loaded by mmfuse."
            )
    yield ""


def _classes(description: Mapping[str, Any]) -> Iterator[str]:
    names = [str(name) for name in description["arguments"].get("class_names") or ()]
    if not names:
        return
    fence = "`" * (1 + max([2, *(len(run) for name in names for run in re.findall("`+", name))]))
    yield f"## Classes ({len(names)})"
    yield ""
    yield from (f"{fence}text", *names, fence, "")


def _certified(record: Record) -> Iterator[str]:
    yield "## What was certified"
    yield ""
    certified = record.provenance.certified
    if certified:
        yield (
            "The training clips and the test list have the fingerprints that ship with mmfuse: they are the clips that "
            "anybody gets for this data set, split, number of shots and draw."
        )
    elif record.cell.dataset.own:
        yield "The clips are the author's own, so there is no published list that they could be compared with."
    else:
        yield "The clips were not certified: mmfuse ships no fingerprint for this draw, or the lists were others."
    yield ""
    inputs = record.inputs
    digests = {"training clips": inputs.train_clips, "test list": inputs.test_clips}
    for name, digest in digests.items():
        if digest is not None:
            yield f"- {name}: `{digest}`"
    yield ""


def _limits(description: Mapping[str, Any], record: Record | None, licence: str | None) -> Iterator[str]:
    yield "## Limits"
    yield ""
    names = description["arguments"].get("class_names") or ()
    said = description["arguments"].get("fusion")
    kind = said.get("kind", "joint") if isinstance(said, Mapping) else said
    yield f"- It answers with one of its {len(names)} classes, whatever a video shows."
    if kind in WITHOUT_TEXT:
        yield f"- Its fusion, `{kind}`, reads no text: it can name no other classes."
    else:
        yield "- Other classes can be named to it in words; how well that works was not measured here."
    if record is not None and record.cell.shots != "all":
        yield "- With few training clips, accuracy varies from draw to draw by several points."
    yield "- The towers must have the weights that were trained on; others are refused."
    if licence is None:
        yield "- No licence is stated for the trained weights."
    yield "- The licences of the towers hold as well" + _terms(record) + "."
    yield ""


def _terms(record: Record | None) -> str:
    card = None if record is None or record.cell.dataset.own else _known(record.cell.dataset.name)
    return "" if card is None or not card.licence else f", and the terms of {card.title}: {card.licence}"


def _plain(text: str) -> str:
    """A name in the middle of Markdown, where it must neither open markup nor end a cell."""
    return re.sub(r"([|<>*_\[\]#])", r"\\\1", text).replace("\n", " ")


def _cell(value: Any) -> str:
    return str(value).replace("\n", " ")


def checkpoint_files(names: Sequence[str]) -> list[str]:
    """Those of a folder's files that make up a model of the hub, in their order there."""
    own = [CARD, DESCRIPTION, WEIGHTS]
    adapters = [
        f"peft-{side}/{file}" for side in SIDES for file in ("adapter_config.json", "adapter_model.safetensors")
    ]
    return [name for name in [*own, *adapters] if name in names]


__all__ = ["CARD", "checkpoint_files", "model_card"]
