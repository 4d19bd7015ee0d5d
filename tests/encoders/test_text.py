"""Text towers: sentence encoders as their folders say, and texts as SigLIP was trained to read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from mmfuse.bench.digests import tower_digest
from mmfuse.encoders import TextTower, load_text_tower
from mmfuse.encoders.hub import check_available
from mmfuse.errors import MmfuseError
from tests import towers

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
SENTENCES = ["bert", "roberta", "mpnet"]


def reference(tower: TextTower, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Last hidden states and attention mask of the model itself, on prompts that are padded to one length."""
    rows = [tower.token_ids(text) for text in texts]
    width = max(map(len, rows)) + 3
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    ids = torch.tensor([row + [1] * (width - len(row)) for row in rows])
    # By `transformers`, they are counted from behind the number of padding, which the small tokenizer has for its end.
    first = 0 if tower.name == "bert" or "/" in tower.name else 2
    places = torch.arange(first, first + width).expand_as(ids)
    return tower.model(ids, attention_mask=mask, position_ids=places).last_hidden_state, mask.unsqueeze(-1)


@pytest.mark.parametrize("kind", SENTENCES)
def test_sentences_are_pooled_over_their_own_tokens(kind: str) -> None:
    tower = towers.text_tower(kind)
    with torch.no_grad():
        states, mask = reference(tower, towers.PHRASES)
        expected = (states * mask).sum(dim=1) / mask.sum(dim=1)
        for trim in (True, False):
            torch.testing.assert_close(tower(tower.tokenize(towers.PHRASES, trim=trim)), expected, **TOLERANCE)
        tower.model.set_attn_implementation("eager")
        torch.testing.assert_close(tower(tower.tokenize(towers.PHRASES)), expected, **TOLERANCE)


@pytest.mark.parametrize("kind", ["metaclip2-text", "siglip2-text"])
def test_the_towers_of_vision_language_models_equal_transformers(kind: str) -> None:
    tower = towers.text_tower(kind)
    prompts = tower.tokenize(towers.PHRASES, trim=False)
    with torch.no_grad():
        output = tower.model(prompts.ids)
        expected = output.pooler_output if kind == "siglip2-text" else output.text_embeds
        torch.testing.assert_close(tower(tower.tokenize(towers.PHRASES)), expected, **TOLERANCE)


def sentence_folder(folder: Path, pooling: dict[str, Any], *kinds: str, **settings: Any) -> Path:
    towers.save_in_hub_layout(towers.text_tower("bert"), folder)
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": ""} for kind in kinds]
    for module in modules:
        module["path"] = "1_Pooling" if module["type"].endswith("Pooling") else ""
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("mode", ["cls", "max", "mean"])
def test_a_folder_of_sentence_transformers_says_how_it_is_pooled(mode: str, tmp_path: Path) -> None:
    told = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": False}
    key = {"cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens", "mean": "pooling_mode_mean_tokens"}[mode]
    kinds = ("Transformer", "Pooling", "Normalize")
    folder = sentence_folder(tmp_path / "x", {**told, key: True}, *kinds, max_seq_length=12, do_lower_case=True)
    tower = load_text_tower(str(folder))
    assert tower.context_length == 12
    with torch.no_grad():
        states, mask = reference(tower, ["moving", "turning around"])
        hidden = states.masked_fill(mask == 0, -1e9).amax(dim=1) if mode == "max" else states[:, 0]
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1) if mode == "mean" else hidden
        found = tower(tower.tokenize(["MOVING", "turning around"]))
    torch.testing.assert_close(found, torch.nn.functional.normalize(pooled, dim=-1), **TOLERANCE)
    with pytest.raises(MmfuseError, match=r"tokens; the text tower '.*' reads 12$"):
        tower.tokenize(["moving to the left " * 9])
    before = tower_digest(str(folder), "text")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    assert load_text_tower(str(folder)).pooling == tower.pooling
    assert tower_digest(str(folder), "text") != before


@pytest.mark.parametrize(
    ("pooling", "kinds", "message"),
    [
        (
            {"pooling_mode_lasttoken": True},
            ("Transformer", "Pooling"),
            "pools its tokens by pooling_mode_lasttoken; supp",
        ),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, ("Transformer", "Pooling"), "one of them"),
        ({}, ("Transformer", "Pooling"), "pools its tokens by nothing"),
        ({"pooling_mode": "mean"}, ("Transformer", "Pooling", "Dense"), "with the module 'Dense'; supported are"),
    ],
)
def test_another_way_of_pooling_is_refused(
    pooling: dict[str, Any], kinds: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    folder = sentence_folder(tmp_path / "x", pooling, *kinds)
    for ask in (load_text_tower, lambda name: check_available(name, "text")):
        with pytest.raises(MmfuseError, match=message):
            ask(str(folder))


def gemma_like(folder: Path, *, model_type: str, ends: str = "$A <eos>", called: str = "GemmaTokenizer") -> Path:
    """A SigLIP with the tokenizer of SigLIP 2, which knows capitals."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([*towers.PHRASES, "A VIDEO OF A PERSON", "a video of a person."], trainer)
    marks = [(token, tokenizer.token_to_id(token)) for token in ("<bos>", "<eos>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=ends, special_tokens=marks)
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    text |= {"vocab_size": 120, "max_position_embeddings": 64, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    image = {**towers.SMALL, "intermediate_size": 64}
    transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=image)).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": model_type}))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {f"{token}_token": f"<{token}>" for token in ("bos", "eos", "pad", "unk", "mask")}
    settings = {"tokenizer_class": called, "model_max_length": 64, "padding_side": "right", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_siglip2_reads_lower_case_and_pads_to_its_64_tokens(tmp_path: Path) -> None:
    """Its FixRes checkpoints call themselves SigLIP, and their tokenizer Gemma's, which keeps capitals."""
    folder = gemma_like(tmp_path, model_type="siglip")
    tower = load_text_tower(str(folder))
    assert transformers.AutoTokenizer.from_pretrained(folder)("A Video")["input_ids"] != tower.token_ids("a video")
    assert tower.token_ids("A Video.") == tower.token_ids("a video.") != tower.token_ids("a video")
    prompts = tower.tokenize(["A Video of a person."])
    # The processor of SigLIP 2 itself: lower case, padded to 64 behind the end, no attention mask.
    own = transformers.Siglip2Tokenizer.from_pretrained(folder)
    expected = own("A Video of a person.", padding="max_length", max_length=64, padding_side="right")["input_ids"]
    assert prompts.ids.tolist() == [expected]
    assert prompts.last.tolist() == [63]
    with pytest.raises(MmfuseError, match=r"has \d+ tokens; the text tower '.*' reads 64$"):
        tower.tokenize(["a video of a person " * 20])


def test_siglip_reads_no_punctuation(tmp_path: Path) -> None:
    tower = load_text_tower(str(gemma_like(tmp_path, model_type="siglip", called="SiglipTokenizer")))
    assert tower.token_ids("A video, of a   person.") == tower.token_ids("a video of a person")


@pytest.mark.parametrize("ends", ["$A", "<bos> $A <eos>"])
def test_a_tokenizer_that_marks_ends_in_another_way_is_refused(ends: str, tmp_path: Path) -> None:
    folder = gemma_like(tmp_path, model_type="siglip", ends=ends, called="PreTrainedTokenizerFast")
    with pytest.raises(MmfuseError, match=r"its tokenizer makes \[.*\] of 'a', where an end token alone should be"):
        load_text_tower(str(folder))
