"""How a sentence encoder makes one embedding of the tokens of a text, as its folder says it. No torch here.

Folders of sentence-transformers list their modules in modules.json; here the tokens are pooled by the module "Pooling",
and normalised where there is a module "Normalize". A folder without such a file is pooled by the mean over its tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmfuse.errors import MmfuseError, one_line
from mmfuse.utils.files import parse_json

MODES = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}
"""What is supported, with the key that asks for it."""
FILES = ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json")


@dataclass(frozen=True)
class Pooling:
    """How tokens become one embedding.

    Args:
        mode: "cls", "mean" or "max", over the tokens of the text.
        normalise: to unit length.
        lowercase: texts are read in lower case.
        longest: tokens that are read at most; `None` for as many as the model has positions for.
    """

    mode: str = "mean"
    normalise: bool = False
    lowercase: bool = False
    longest: int | None = None


def read_pooling(folder: Path, name: str) -> Pooling:
    """Read a folder's files.

    Raises:
        MmfuseError: one that cannot be read, or a way of pooling that is not supported.
    """
    if not (folder / "modules.json").is_file():
        return Pooling()
    modules = _read(folder / "modules.json", name, list)
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    other = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if other or kinds.count("Pooling") != 1:
        what = f"the module {other[0]!r}" if other else "no single module 'Pooling'"
        raise MmfuseError(
            f"text tower {name!r} is a model of sentence-transformers with {what}; supported are those of "
            "'Transformer', 'Pooling' and 'Normalize'"
        )
    inner = PurePosixPath(str(modules[kinds.index("Pooling")].get("path", "")))
    if inner.is_absolute() or ".." in inner.parts:
        raise MmfuseError(
            f"text tower {name!r}: its modules.json names {str(inner)!r:.80}, which leads out of its folder"
        )
    own = folder / "sentence_bert_config.json"
    settings = _read(own, name, dict) if own.is_file() else {}
    longest = settings.get("max_seq_length")
    return Pooling(
        mode=_mode(_read(folder / inner / "config.json", name, dict), name),
        normalise="Normalize" in kinds,
        lowercase=bool(settings.get("do_lower_case")),
        longest=longest if isinstance(longest, int) and longest > 2 else None,
    )


def _mode(settings: Mapping[str, Any], name: str) -> str:
    told = settings.get("pooling_mode")
    asked = [told] if isinstance(told, str) else told if isinstance(told, list) else None
    if asked is None:
        asked = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value is True]
    known = {**{key: mode for mode, key in MODES.items()}, **{mode: mode for mode in MODES}}
    if len(asked) != 1 or asked[0] not in known:
        raise MmfuseError(
            f"text tower {name!r} pools its tokens by {' and '.join(map(str, asked)) or 'nothing'}; supported are "
            f"{', '.join(MODES)}, one of them"
        )
    return known[asked[0]]


def _read(path: Path, name: str, kind: type) -> Any:
    try:
        content = parse_json(path.read_bytes())
        if not isinstance(content, kind):
            raise ValueError("it holds something else")
    except (OSError, ValueError) as error:
        raise MmfuseError(f"text tower {name!r}: {path.name} cannot be read: {one_line(error)}") from error
    return content
