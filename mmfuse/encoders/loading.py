"""Loading a tower by name, with every tensor accounted for."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

from mmfuse.encoders.architectures import Architecture, VideoArchitecture, find_layout
from mmfuse.encoders.hub import check_config, find_folder
from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.pooling import read_pooling
from mmfuse.encoders.preprocessing import read_preprocessing
from mmfuse.encoders.supported import CHECKPOINTS, IMAGE, TEXT
from mmfuse.encoders.text import TextTower
from mmfuse.encoders.video import VideoTower
from mmfuse.errors import MmfuseError, one_line
from mmfuse.utils.files import parse_json


def load_image_tower(name: str) -> ImageTower:
    """Load a frozen image tower.

    Args:
        name: an embedded tower ("tiny-dinov2"), a folder in hub layout, or a hub id ("facebook/dinov2-base").

    Raises:
        MmfuseError: it cannot be found, is not an image tower, or its weights are incomplete.
    """
    folder = find_folder(name, "image")
    model = _load(folder, name, "image")
    pixels = read_preprocessing(folder, name)
    tower = VideoTower if isinstance(IMAGE.get(model.config.model_type), VideoArchitecture) else ImageTower
    return tower(model, name=name, mean=pixels.mean, std=pixels.std, native_size=pixels.size)


def load_text_tower(name: str) -> TextTower:
    """Load a frozen text tower with its tokenizer.

    Args:
        name: an embedded tower ("tiny-clip-text"), a folder in hub layout, or a hub id
            ("openai/clip-vit-base-patch16").

    Raises:
        MmfuseError: it cannot be found, is not a text tower, or its weights are incomplete.
    """
    folder = find_folder(name, "text")
    model = _load(folder, name, "text")
    try:
        with quiet():
            # SigLIP's own class needs SentencePiece; what it does besides, the tower does to its texts itself.
            plain = _is_siglips(folder) and (folder / "tokenizer.json").is_file()
            tokenizer_class = transformers.PreTrainedTokenizerFast if plain else transformers.AutoTokenizer
            tokenizer = tokenizer_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # broken files raise whatever their reader raises
        raise MmfuseError(f"text tower {name!r}: its tokenizer cannot be read: {one_line(error)}") from error
    if len(tokenizer) > model.config.vocab_size:
        raise MmfuseError(
            f"text tower {name!r}: its tokenizer knows {len(tokenizer)} tokens, its weights {model.config.vocab_size}; "
            "they do not belong together"
        )
    tower = TextTower(
        model,
        tokenizer=tokenizer,
        name=name,
        pooling=read_pooling(folder, name) if TEXT[model.config.model_type].sees == "text" else None,
        punctuation=not _is_siglips(folder),
    )
    _check_ends(tower)
    return tower


def _is_siglips(folder: Path) -> bool:
    """Whether a checkpoint's tokenizer is that of SigLIP; the same kind of checkpoint also comes with Gemma's."""
    path = folder / "tokenizer_config.json"
    try:
        return path.is_file() and parse_json(path.read_bytes())["tokenizer_class"].startswith("SiglipTokenizer")
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return False


def _check_ends(tower: TextTower) -> None:
    """Refuse a tokenizer that does not mark the ends of a text as the tower was trained to have them.

    What is pooled, and where learned words go, depends on them; without them embeddings are wrong, and nothing fails.
    """
    row, tokenizer = tower.token_ids("a"), tower.tokenizer
    ends = {tokenizer.eos_token_id, tokenizer.sep_token_id} - {None}
    starts = {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None} - (ends if tower.start_tokens == 0 else set())
    if not row or row[-1] not in ends or (row[0] in starts) is not bool(tower.start_tokens):
        expected = "a start and an end token" if tower.start_tokens else "an end token alone"
        raise MmfuseError(
            f"text tower {tower.name!r}: its tokenizer makes {tokenizer.convert_ids_to_tokens(row)} of 'a', where "
            f"{expected} should be around the word; fetch its tokenizer_config.json and tokenizer.json again"
        )


def _load(folder: Path, name: str, kind: str) -> Any:
    check_config(folder, name, kind)
    architecture = CHECKPOINTS[kind][read_config(folder, name, kind).model_type]
    try:
        with quiet():
            model, report = getattr(transformers, architecture.model_class).from_pretrained(
                folder,
                dtype=torch.float32,
                weights_only=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **{"attn_implementation": "sdpa", **architecture.options},
            )
    except pickle.UnpicklingError as error:
        raise MmfuseError(
            f"{kind} tower {name!r} cannot be loaded: its pytorch_model.bin is broken, or holds more than tensors, "
            "which is never unpickled, as that can run foreign code"
        ) from error
    except Exception as error:  # broken files raise whatever their reader raises
        raise MmfuseError(f"{kind} tower {name!r} cannot be loaded: {one_line(error)}") from error
    _account_for_every_tensor(find_layout(model, architecture).layers, report, name, architecture, kind)
    return model


def _account_for_every_tensor(
    layers: str, report: dict[str, Any], name: str, architecture: Architecture, kind: str
) -> None:
    """Refuse a checkpoint that fits only in part.

    Tensors that the model has no place for are heads and other towers, and are left; but not whole layers, which would
    mean that the configuration is another model's.
    """
    shapes = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in report["mismatched_keys"])
    own = tuple(f"{prefix}{layers}." for prefix in ("", f"{'vision' if kind == 'image' else 'text'}_model."))
    more = sorted(key for key in report["unexpected_keys"] if key.startswith(own))
    faults = {
        "lacks": sorted(key for key in report["missing_keys"] if key.split(".")[0] not in architecture.discarded),
        "has another shape for": shapes,
        "has, beyond what its config.json describes,": more,
    }
    for fault, keys in faults.items():
        if keys:
            others = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise MmfuseError(f"{kind} tower {name!r}: the checkpoint {fault} {', '.join(keys[:3])}{others}")


def read_config(folder: Path, name: str, kind: str) -> Any:
    """A checkpoint's configuration, as `transformers` reads it.

    Raises:
        MmfuseError: it cannot be read.
    """
    try:
        with quiet():
            return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # broken files raise whatever their reader raises
        raise MmfuseError(f"{kind} tower {name!r}: config.json cannot be read: {one_line(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the reports and progress bars of `transformers`: what matters of them is checked here."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
