"""`mmfuse-bench list` and `--version`."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yaml
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import mmfuse
from mmfuse.bench.grid import dataset_names, grid_names
from mmfuse.cli.common import out, print_json
from mmfuse.errors import unknown
from mmfuse.utils.resources import grids_folder

LAST_COLUMN = 24
"""Letters that a table's last column, the only one that is wrapped, must have room for; else there is no table."""


def show_list(what: str, *, json: bool) -> None:
    """Print what is known by name.

    Raises:
        MmfuseError: nothing is listed under `what`.
    """
    makers = {"grids": _grids, "methods": _methods, "datasets": _datasets, "encoders": _encoders}
    if what not in makers:
        raise unknown("list", what, makers)
    rows = makers[what]()
    if json:
        print_json(rows)
        return
    console = out()
    shown = [[*map(_value_text, row.values())] for row in rows]
    *most, _ = (max(map(len, column)) + 2 for column in zip(rows[0], *shown, strict=True))
    if sum(most) + LAST_COLUMN <= console.width:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for key in rows[0]:
            table.add_column(key, no_wrap=key != list(rows[0])[-1])
        for texts in shown:
            table.add_row(*texts)
        console.print(table)
        return
    for row in rows:
        name, *others = row.items()
        console.print(Text(_value_text(name[1]), style="bold"))
        for key, value in others:
            if value is not None and value != "":
                console.print(Padding(Text(f"{key}: {_value_text(value)}"), (0, 0, 0, 2)))


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _grids() -> list[dict[str, Any]]:
    rows = []
    for name in grid_names():
        content = yaml.safe_load((grids_folder() / f"{name}.yaml").read_text(encoding="utf-8"))
        rows.append({"grid": name, "description": content.get("description", "")})
    return rows


def _methods() -> list[dict[str, Any]]:
    from mmfuse.methods.recipes import recipe_of_family
    from mmfuse.methods.registry import catalogue

    recipes = {info.name: recipe_of_family(info.family) for info in catalogue() if info.name != "frozen"}
    return [
        {
            "method": info.name,
            "towers": list(info.towers),
            "family": info.family,
            "learning rate": recipes[info.name].lr if info.name in recipes else None,
            "trains": info.summary,
            "paper": info.paper,
        }
        for info in catalogue()
    ]


def _datasets() -> list[dict[str, Any]]:
    from mmfuse.data.catalogue.cards import load_card

    rows = []
    for name in dataset_names():
        card = load_card(name)
        clips = [f"{split}: {count['train']}/{count['test']}" for split, count in card.splits.items()]
        rows.append(
            {
                "data set": name,
                "title": card.title,
                "classes": card.class_count,
                "train/test clips by split": clips,
                "most shots": card.max_shots,
            }
        )
    return rows


def _encoders() -> list[dict[str, Any]]:
    from mmfuse.encoders.architectures import VideoArchitecture
    from mmfuse.encoders.hub import EMBEDDED
    from mmfuse.encoders.supported import IMAGE, TEXT
    from mmfuse.encoders.unsupported import UNSUPPORTED

    keys = ("encoder", "tower", "family", "patch", "size", "frames", "licence", "gated", "note")
    blank: dict[str, Any] = dict.fromkeys(keys)
    embedded = {"licence": "apache-2.0", "gated": False, "note": "embedded in the package"}
    rows = [{**blank, "encoder": name, "tower": tower, **embedded} for name, tower in sorted(EMBEDDED.items())]
    for record in (*IMAGE.values(), *TEXT.values()):
        text = record.model_type in TEXT
        tower = "text" if text else "video" if isinstance(record, VideoArchitecture) else "image"
        for known in record.known:
            facts = {key: getattr(known, key) for key in ("patch", "size", "frames", "licence", "gated")}
            rows.append({**blank, "encoder": known.name, "tower": tower, "family": record.family, **facts})
    for one in UNSUPPORTED:
        note = f"not supported: {one.why}; the nearest that is: {one.nearest}"
        rows.append({**blank, "encoder": one.title, "tower": one.kind, "note": note})
    anything = "any checkpoint of these families, by hub id or folder in hub layout"
    return [*rows, {**blank, "encoder": "<owner/name> or a folder", "note": anything}]


def print_version() -> None:
    """Print the versions that numbers depend on."""
    names = ("torch", "lightning", "transformers", "peft", "torchmetrics", "av")
    parts = [f"mmfuse {mmfuse.__version__}", f"python {platform.python_version()}"]
    for name in names:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            parts.append(f"{name} missing")
    print("\n".join([*parts, f"ffmpeg {_ffmpeg()}", f"device {_device()}"]))


def _ffmpeg() -> str:
    """The version of the FFmpeg that decodes: the one that PyAV brings, whatever else is installed."""
    try:
        import av
    except ImportError:
        return "missing"
    return str(getattr(av, "ffmpeg_version_info", "unknown"))


def _device() -> str:
    """What models run on here; torch is asked only where there may be more than a CPU."""
    from mmfuse.bench.accelerators import Host
    from mmfuse.utils.processes import usable_cores

    cpu = f"cpu ({platform.machine()}, {usable_cores()} cores)"
    host = Host.here()
    if host.devices():
        import torch

        kinds = Counter(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        return ", ".join(f"{number} × {kind}" if number > 1 else kind for kind, number in kinds.items())
    if fault := host.fault():
        return f"{cpu}; {fault}"
    if sys.platform == "darwin" and platform.machine() == "arm64":
        import torch

        return "mps (Apple GPU)" if torch.backends.mps.is_available() else cpu
    return cpu
