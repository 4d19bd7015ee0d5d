"""The parts of the schema of Every Eval Ever, version 0.3.0, that an export uses: which keys, of which types.

The project (github.com/evaleval/every_eval_ever) publishes the whole schema and a validator, which needs a newer Python
than this package; this is what it asks of such documents, and nothing besides is written.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmfuse.errors import MmfuseError

Details = dict[str, str]
"""Whatever has no key of its own, as text by name."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SourceMetadata(_Part):
    """Who ran the evaluation."""

    source_name: str
    source_type: Literal["evaluation_run"]
    source_organization_name: str
    source_organization_url: str | None = None
    evaluator_relationship: Literal["first_party", "third_party", "collaborative", "other"]
    additional_details: Details = {}


class Library(_Part):
    """What it was run with."""

    name: str
    version: str


class ModelInfo(_Part):
    """What was evaluated; its details must hold `deployment_type` and `model_availability`."""

    name: str
    id: str = Field(pattern=r"^[^/]+/[^/]+$")
    additional_details: Details


class FromAddress(_Part):
    """A data set that is published somewhere."""

    dataset_name: str
    source_type: Literal["url"]
    url: list[str] = Field(min_length=1)
    additional_details: Details = {}


class FromElsewhere(_Part):
    """Any other data set."""

    dataset_name: str
    source_type: Literal["other"]
    additional_details: Details = {}


class Metric(_Part):
    """What a score is, and its bounds."""

    metric_id: str
    metric_name: str
    metric_kind: str
    metric_unit: str
    metric_parameters: dict[str, str | int | float | bool | None]
    lower_is_better: bool
    score_type: Literal["continuous"]
    min_score: int | float
    max_score: int | float


class ConfidenceInterval(_Part):
    """Bounds of a score."""

    lower: Number
    upper: Number
    confidence_level: float = Field(ge=0, le=1)
    method: str


class Uncertainty(_Part):
    """How far a score is known."""

    confidence_interval: ConfidenceInterval
    num_samples: int


class Score(_Part):
    """A score with what belongs to it."""

    score: Number
    details: Details
    uncertainty: Uncertainty | None = None


class GenerationArguments(_Part):
    """How it can be run again."""

    execution_command: str


class GenerationConfig(_Part):
    """Under which settings a score came about."""

    generation_args: GenerationArguments | None = None
    additional_details: Details = {}


class EvaluationResult(_Part):
    """One score."""

    evaluation_result_id: str
    evaluation_name: str
    evaluation_timestamp: str | None = None
    source_data: Annotated[FromAddress | FromElsewhere, Field(discriminator="source_type")]
    metric_config: Metric
    score_details: Score
    generation_config: GenerationConfig | None = None


class Document(_Part):
    """A file of the schema."""

    schema_version: Literal["0.3.0"]
    evaluation_id: str
    evaluation_timestamp: str | None = None
    retrieved_timestamp: str
    source_metadata: SourceMetadata
    model_info: ModelInfo
    eval_library: Library
    evaluation_results: list[EvaluationResult] = Field(min_length=1)


AVAILABILITY = {
    "deployment_type": {"self_deployed", "externally_managed", "unknown"},
    "model_availability": {"open_weights", "closed_weights", "unknown"},
}
"""Details that the schema wants of a model, and what they may be."""


def check_document(document: dict[str, Any]) -> None:
    """Compare a document with the schema.

    Raises:
        MmfuseError: it does not fit; the place is named.
    """
    try:
        model = Document.model_validate(document).model_info
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        problem = f"the results do not fit the schema of Every Eval Ever at {place}: {first['msg']:.200}"
        raise MmfuseError(problem) from None
    for key, values in AVAILABILITY.items():
        if model.additional_details.get(key) not in values:
            raise MmfuseError(f"the results do not fit the schema of Every Eval Ever: model_info lacks {key}")
