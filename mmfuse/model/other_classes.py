"""Testing a trained recogniser on classes that it was not trained on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from mmfuse.errors import MmfuseError
from mmfuse.model.class_prompts import ClassPrompts, check_names
from mmfuse.model.metrics import TestMetrics
from mmfuse.model.recognizer import ActionRecognizer


@contextlib.contextmanager
def other_classes(
    model: ActionRecognizer,
    class_names: Sequence[str],
    *,
    templates: Sequence[str] | None = None,
    sentences: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[None]:
    """Within this, a test reads other class names; no weight changes, and what an earlier test has found is kept.

    Class embeddings are centred over the classes given, as they were over those of the training.

    Args:
        model: trained.
        class_names: C names as words for prompts.
        templates: prompts with `{}` for the class; by default those of the training.
        sentences: of the classes by name, in the place of the templates.

    Raises:
        MmfuseError: a fusion that reads no text, or names that no prompts can be made of.
    """
    if not model.fusion.open_vocabulary:
        kind = type(model.fusion).__name__.lower()
        raise MmfuseError(f"the fusion {kind!r} reads no text, and knows the classes alone that it was trained on")
    names = check_names(class_names)
    before = (model.class_names, model.prompts, model.metrics, model.test_predictions)
    model.class_names = names
    model.prompts = ClassPrompts(
        names,
        tower=model.text_tower,
        method=model.text_method,
        templates=model.templates if templates is None else templates,
        trim=model.optimizations.trim,
        sentences=sentences,
    )
    model.metrics, model.test_predictions = TestMetrics(classes=len(names)).to(model.device), {}
    try:
        yield
    finally:
        model.class_names, model.prompts, model.metrics, model.test_predictions = before
