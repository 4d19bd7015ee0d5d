"""Sentences of the classes in the place of templates: averaged as templates are, any number for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from mmfuse.errors import MmfuseError
from mmfuse.inference.predict import vocabulary
from mmfuse.methods.registry import names
from tests.methods.sweep import SMALL, disturb
from tests.model.test_recognizer import loader, recognizer, trainer
from tests.towers import PHRASES, image_tower, text_tower

RAGGED = {
    name: [f"{word} {name}" for word in ("see", "a", "turning")[: 1 + row % 3]] for row, name in enumerate(PHRASES)
}


def test_sentences_are_averaged_as_templates_are() -> None:
    templates = ["a video of {}.", "{} again", "look: {}"]
    written = {name: [template.format(name) for template in templates] for name in reversed(PHRASES)}
    by_template = recognizer(templates=templates).class_embeddings()
    assert torch.equal(recognizer(prompts=written).class_embeddings(), by_template)


def test_classes_may_have_more_sentences_than_others() -> None:
    model = recognizer(prompts=RAGGED)
    found = model.class_embeddings()
    for row, name in enumerate(PHRASES):
        alone = [model.text_tower(model.text_tower.tokenize([sentence])) for sentence in RAGGED[name]]
        expected = torch.cat([functional.normalize(one, dim=-1) for one in alone]).mean(dim=0)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", names("text"))
def test_every_text_method_trains_with_sentences(method: str) -> None:
    """Also those that learn the prompt's words, which stand in front of each sentence."""
    model = recognizer(text_method={"method": method, **SMALL.get(method, {})}, prompts=RAGGED)
    disturb(model, torch.nn.Identity())
    batch = next(iter(loader(count=2, batch=2)))
    model.loss(batch).backward()
    weights = model.trained_parameters()["text"].values()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)
    assert (
        not torch.equal(model.class_embeddings(), recognizer(prompts=RAGGED).class_embeddings()) or method == "frozen"
    )


def test_a_checkpoint_keeps_the_sentences_and_new_classes_have_their_own(tmp_path: Path) -> None:
    model = recognizer(prompts=RAGGED, text_method="coop").eval()
    model.save_trained(tmp_path)
    again = type(model).from_checkpoint(tmp_path, image_encoder=image_tower(), text_encoder=text_tower())
    assert torch.equal(again.class_embeddings(), model.class_embeddings())
    # A known class keeps its sentences among others; of a new one there may be sentences too.
    told = vocabulary(again, [PHRASES[1], "a new one", "by its name"], prompts=None).embeddings
    torch.testing.assert_close(told[0], model.class_embeddings()[1].detach(), rtol=0, atol=1e-6)
    new = vocabulary(again, prompts={"first": ["seen from afar", "near"], "second": ["near"]})
    assert new.names == new.new == ("first", "second")
    assert not torch.equal(new.embeddings, again.class_embeddings(["first", "second"]))


def test_a_checkpoint_of_lightning_belongs_to_its_sentences(tmp_path: Path) -> None:
    made = trainer(max_epochs=1)
    made.fit(recognizer(prompts=RAGGED), loader(count=4))
    made.save_checkpoint(tmp_path / "kept.ckpt")
    with pytest.raises(MmfuseError, match="another prompts"):
        trainer().test(recognizer(), loader(count=4), ckpt_path=tmp_path / "kept.ckpt", verbose=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"growing": None}, "no sentence for the class 'growing'"),
        ({"growin": ["x"]}, "did you mean 'growing'"),
        ({"growing": []}, "there is no sentence"),
        ({"growing": ["x", " \n"]}, "sentence 2 is empty"),
        ({"growing": ["x", 7]}, "sentence 2 is no text: 7"),
        ({"growing": {"a": "b"}}, "a list of sentences is meant"),
        ({"growing": ["\ud83d"]}, "half a character"),
        ({"growing": RAGGED["turning around"]}, "have the same sentences"),
        ({"growing": ["turning " * 40]}, "tokens; the text tower"),
        ({True: ["x"]}, "put True in quotes"),
    ],
)
def test_wrong_sentences_are_one_clear_line(changes: dict[Any, Any], message: str) -> None:
    prompts = {name: value for name, value in {**RAGGED, **changes}.items() if value is not None}
    with pytest.raises(MmfuseError) as told:
        recognizer(prompts=prompts)
    assert message in str(told.value)
    assert "\n" not in str(told.value)
