"""The knobs of ``simclrseg evaluate``."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from simclrseg.errors import suggestion
from simclrseg.knobs.sections import Console, Hardware, Section
from simclrseg.knobs.values import (
    Common,
    Completes,
    DatasetName,
    Flag,
    PathText,
    Positional,
    Tells,
    Transient,
    dataset_names,
)
from simclrseg.metrics.table import GATES
from simclrseg.registry import canonical
from simclrseg.scores import EMBEDDINGS


def _gate(text: str) -> str:
    name, _, value = text.partition("=")
    name = canonical(name, GATES)
    if name not in GATES:
        raise ValueError(f"{text!r}: {name!r} is not a metric of which more is better: {suggestion(name, GATES)}")
    try:
        bound = float(value)
    except ValueError:
        bound = math.nan
    if not 0 <= bound <= 1:
        raise ValueError(f"{text!r} is not a metric and a number from 0 to 1, such as {name}=0.85")
    return f"{name}={value}"


class EvaluateData(Section):
    """Data"""

    models: Annotated[list[PathText], Positional("[RUN...]"), Completes("models"), Transient()] = []
    """Fine-tuned runs, by name or folder, or exported .onnx files; the newest run by default. Several are compared."""
    dataset: Annotated[DatasetName | None, Flag("-d"), Common(), Tells(dataset_names)] = None
    """Score on these photos and masks instead of the run's own."""
    split: Annotated[Literal["train", "validation", "test", "all"], Common()] = "test"
    """Part of the dataset to score; all is the three together, without photos that --data-ratio left over."""
    at: Literal["original", "training"] = "original"
    """Resolution to score masks at: their own, or that of training."""
    empty: Annotated[Literal["nan", "0", "1"], BeforeValidator(str)] = "1"
    """Of two classes, score of an image that has no foreground and where none was found, in the means of IoU, F1, Dice,
    precision, recall and Boundary IoU; nan leaves it out."""
    batch_size: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Images per forward pass; auto is 32, or the micro-batch of the run if that is smaller."""
    baseline: Annotated[str | None, Completes("models"), Common(), Transient()] = None
    """Model that the others are compared with; by default the first."""
    minimum: Annotated[list[Annotated[str, AfterValidator(_gate)]], Flag("--min"), Common()] = []
    """Exit with code 1 if a model's metric is below a bound, such as iou=0.85; repeat it for several."""
    classes: list[str] = []
    """Class of an .onnx file of another tool, once for each, in order. The file needs an input image and the outputs
    probability and mask (or label)."""
    size: Annotated[int, Ge(1), Le(8192)] | None = None
    """Training size of an .onnx file of another tool: side of the squares, in pixels."""


class EvaluateUncertainty(Section):
    """Out of distribution"""

    ood: Annotated[list[DatasetName], Completes("datasets"), Common()] = []
    """Photos of another kind, a name or a folder: measure how well the model tells them from its own. Repeat it for
    several."""
    mc_samples: Annotated[int, Ge(2)] | None = None
    """Number of Monte-Carlo dropout samples for the mutual information; by default 20 if the model was trained with
    dropout."""

    @model_validator(mode="after")
    def _draws_are_for_other_images(self) -> Self:
        if self.mc_samples is not None and not self.ood:
            raise ValueError(f"mc_samples ({self.mc_samples}) is for telling other photos apart: name some with ood")
        return self


class EvaluateFeatures(Section):
    """Features"""

    embed: Annotated[Annotated[str, EMBEDDINGS] | None, Common()] = None
    """Plot the features of the images in two dimensions; umap needs pip install 'simclrseg[umap]'."""


class EvaluateLabels(Section):
    """Labels"""

    label_next: Annotated[int, Ge(1)] | None = None
    """Choose so many photos without labels, of the run's or of --dataset, whose labels would teach most: typical ones
    of its features, or where it is fine-tuned those of which it is unsure and which are unlike others."""


class EvaluateConfig(Section):
    """evaluate"""

    data: EvaluateData = Field(default_factory=EvaluateData)
    uncertainty: EvaluateUncertainty = Field(default_factory=EvaluateUncertainty)
    features: EvaluateFeatures = Field(default_factory=EvaluateFeatures)
    labels: EvaluateLabels = Field(default_factory=EvaluateLabels)
    hardware: Hardware = Field(default_factory=Hardware)
    console: Console = Field(default_factory=Console)
