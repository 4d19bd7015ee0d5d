"""The table on the terminal, and the file that documents quote."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.speed.measuring import Figure, Row

MET = {True: "yes", False: "no", None: ""}


def amount(value: float) -> str:
    """Three digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def measured(figure: Figure | None, unit: str) -> str:
    """A figure with its spread, where there is one."""
    if figure is None:
        return "–"
    mark = "×" if unit == "×" else f" {unit}"
    spread = f" ({amount(figure.low)}–{amount(figure.high)})" if figure.count > 1 else ""
    return f"{amount(figure.median)}{mark}{spread}"


def aim(row: Row) -> str:
    """What is aimed at."""
    parts = [("≥", row.at_least), ("≤", row.at_most)]
    return ", ".join(f"{sign} {value:g}" for sign, value in parts if value is not None)


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAD, title="measured side by side; median (lowest–highest) of the rounds")
    table.add_column("what", ratio=5)
    table.add_column("against", ratio=3)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("aim", justify="right", no_wrap=True)
    table.add_column("met", no_wrap=True)
    table.add_column("how", ratio=3, style="dim")
    for row in rows:
        table.add_row(row.what, row.against, measured(row.measured, row.unit), aim(row), MET[row.met], row.how)
    console.print(table)


def document(rows: Sequence[Row], *, command: str, device: str) -> dict[str, Any]:
    """All figures with what they were measured on; no names of machines, users or folders."""
    from mmfuse.bench.environment import commit, versions

    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": machine(device),
        "versions": versions(),
        "rows": [{**dataclasses.asdict(row), "met": row.met} for row in rows],
    }


def machine(device: str) -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    import torch

    described = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": 1,
        "computes_in": torch.backends.cpu.get_cpu_capability(),
        "bf16_tiles": "amx_bf16" in _flags(),
    }
    if device != "cpu":
        described["device"] = torch.cuda.get_device_name()
    return described


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def _processor() -> str:
    named = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return named[0] if named else platform.processor()


def _flags() -> set[str]:
    return next((set(line.split()) for line in _cpuinfo() if line.startswith("flags")), set())


def store(path: Path, new: dict[str, Any]) -> None:
    """Keep the figures. Rows of another run that were not measured now stay, with its date, commit and machine."""
    kept = []
    if path.exists():
        old = json.loads(path.read_text())
        run = {key: old[key] for key in ("command", "date", "commit", "machine")}
        now = {row["row"] for row in new["rows"]}
        kept = [{"run": run, **row} for row in old["rows"] if row["row"] not in now]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**new, "rows": [*new["rows"], *kept]}, indent=1, ensure_ascii=False) + "\n")
