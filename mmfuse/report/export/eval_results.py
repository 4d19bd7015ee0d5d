"""Results as the Hugging Face hub's `.eval_results/*.yaml`: a file for each data set, below a folder for each pair.

The hub shows a result beside those of others where a data set of the hub is registered as a benchmark. Which one stands
for which of our data sets has to be said; a data set for which none is said is left out, with a line that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml, parse_eval_result_entries

from mmfuse.errors import MmfuseError
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.status import Entry
from mmfuse.report.export.source import Exported, Line, RowOf, rows_of, slug
from mmfuse.utils.portable import is_hub_id


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of the hub: a data set's repository, and the tasks that it defines.

    `task` may hold `{shots}` and `{split}`, where each number of shots or split is a task of its own.
    """

    repository: str
    task: str

    def task_of(self, *, shots: str, split: int) -> str:
        """The task that a result belongs to."""
        return self.task.replace("{shots}", shots).replace("{split}", str(split))


def parse_benchmarks(given: Sequence[str]) -> dict[str, Benchmark]:
    """Which benchmark stands for which data set, as `--benchmark` says it.

    Raises:
        MmfuseError: not written NAME=OWNER/DATASET:TASK.

    >>> parse_benchmarks(["ucf101=someone/ucf101-few-shot:k{shots}"])["ucf101"].task_of(shots="4", split=1)
    'k4'
    """
    found = {}
    for text in given:
        name, _, place = text.partition("=")
        repository, _, task = place.partition(":")
        if not name or not task or not is_hub_id(repository):
            raise MmfuseError(f"--benchmark is written NAME=OWNER/DATASET:TASK; got {text!r:.100}")
        found[name] = Benchmark(repository, task)
    return found


def export_eval_results(
    entries: list[Entry],
    folder: ResultsFolder,
    *,
    benchmarks: Mapping[str, Benchmark],
    source_url: str | None = None,
) -> Exported:
    """The files of a results folder.

    Args:
        entries: its cells.
        folder: where their records lie.
        benchmarks: by the name of a data set, as tables call it.
        source_url: where the results can be read.

    Raises:
        MmfuseError: no data set of the results has a benchmark, or nothing is finished.
    """
    files: dict[str, str] = {}
    left_out: list[str] = []
    rows = rows_of(entries, folder)
    for row in rows:
        benchmark = benchmarks.get(row.group.dataset)
        if benchmark is None:
            left_out.append(f"{row.group.dataset}: no benchmark of the hub is named for it (--benchmark)")
            continue
        left_out += row.left_out
        results = [_entry(line, row, benchmark, source_url) for line in row.accuracies if line.metric == "top1"]
        if len({result.task_id for result in results}) < len(results):
            raise MmfuseError(
                f"several numbers of shots of {row.group.dataset} would stand as one task, {benchmark.task!r}; write "
                "{shots} into it, such as --benchmark NAME=OWNER/DATASET:k{shots}"
            )
        if results:
            name = f"{slug(row.name)}/.eval_results/{slug(f'{row.group.dataset}-split-{row.group.split}')}.yaml"
            files[name] = _as_yaml(results)
    if not files:
        known = ", ".join(dict.fromkeys(row.group.dataset for row in rows))
        raise MmfuseError(
            f"none of these data sets ({known}) is known as a benchmark of the hub; say which one stands for it: "
            "--benchmark NAME=OWNER/DATASET:TASK"
        )
    return Exported(files, tuple(dict.fromkeys(left_out)))


def _entry(line: Line, row: RowOf, benchmark: Benchmark, source_url: str | None) -> EvalResultEntry:
    told: Any = line.told
    draws = f"{told['n']} draw{'s' if told['n'] != 1 else ''}"
    spread = "" if told["half_width"] is None else f" ± {told['half_width']:.2f} (95%, Student's t over draws)"
    complete = "" if told["state"] == "done" else f"; incomplete: {told['state']}"
    finished = [
        record.provenance.finished
        for entry, record in row.done
        if str(entry.cell.shots) == line.shots and record.provenance.finished
    ]
    return EvalResultEntry(
        dataset_id=benchmark.repository,
        task_id=benchmark.task_of(shots=line.shots, split=row.group.split),
        value=round(told["mean"], 4),
        date=max(finished) if finished else None,
        source_url=source_url,
        source_name="mmfuse" if source_url else None,
        notes=(
            f"top-1 accuracy in %, split {row.group.split}, K={line.shots} training clips a class, {row.name}, mean of "
            f"{draws}{spread}{complete}"
        ),
    )


def _as_yaml(results: list[EvalResultEntry]) -> str:
    """The file, read again by the hub's own reader."""
    text = yaml.safe_dump(eval_result_entries_to_yaml(results), sort_keys=False, allow_unicode=True, width=1000)
    assert parse_eval_result_entries(yaml.safe_load(text)) == results
    return text
