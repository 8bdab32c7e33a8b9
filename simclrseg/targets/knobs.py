"""What the knobs of a target are made of, and those of labelled images, whatever is learned from them."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, model_validator

from simclrseg.knobs.sections import Section
from simclrseg.knobs.values import (
    ClassesName,
    Common,
    DatasetName,
    Flag,
    NormalizationName,
    Positional,
    Tells,
    check_columns,
    dataset_names,
)


def _fold(text: str) -> str:
    part, _, count = text.partition("/")
    if not (part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count) and int(count) >= 2):
        raise ValueError(f"{text!r} is not K/N, such as 1/5, with K from 1 to N and N at least 2")
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text


class LabelledData(Section):
    """Data"""

    dataset: Annotated[DatasetName | None, Positional("[DATASET]", named=True), Flag("-d"), Tells(dataset_names)] = None
    """Labelled photos: a name, hf:owner/name, or a folder with images/ and masks/, or with one folder a class. By
    default those that belong to what the weights were pretrained on, as oxford_pets to cats_vs_dogs."""
    data_ratio: Annotated[float, Gt(0), Le(1), Common()] = 1.0
    """Share of the development photos (all but test) to use."""
    max_images: Annotated[int, Ge(2)] | None = None
    """How many development photos to use at most, instead of a share; fewer are among those of more."""
    image_size: Annotated[int, Ge(32), Le(2048), Common()] = 256
    """Side to which photos are brought, in pixels; the aspect is not kept."""
    augmentation: Literal["none", "flip", "color", "standard"] = "flip"
    """Random changes to photo and mask together; color adds mild colours to the flip, and standard adds crops (so scale
    and aspect) to both."""
    test_split: Literal["official", "random"] = "official"
    """Take the published test list where there is one, or a random fifth."""
    split_seed: Annotated[int, Ge(0)] = 0
    """Seed of the split; nothing else changes it."""
    fold: Annotated[str, AfterValidator(_fold)] | None = None
    """K/N for cross-validation: validate on part K of N parts of the development photos."""
    group_by: Annotated[str, AfterValidator(_pattern)] | None = None
    """Regular expression on a photo's path: photos that it finds the same text in stay in one part of the split."""
    border: Literal["pet", "background", "ignore", "class"] = "pet"
    """What Oxford's border pixels count as; class makes them a third one."""
    classes: list[str] = []
    """Learn this class, by name, and count the rest as background; repeat it. Or a number: how many the masks hold."""
    classes_file: ClassesName | None = None
    """YAML of class names and colours, for RGB masks and for names."""
    normalization: NormalizationName | None = None
    """Mean and std of pixels: imagenet, dataset (of the training photos), or a YAML file of both; by default those of
    the weights it starts from, else imagenet for photos and dataset for other bands."""
    image_column: str | None = None
    """Column of a set of the Hub that holds the photos; by default the only one of images."""
    label_column: str | None = None
    """Column of a set of the Hub that holds the classes; by default the only one of class labels."""
    mask_column: str | None = None
    """Column of a set of the Hub that holds the masks; by default the other one of images."""
    cache: Literal["auto", "ram", "disk", "none"] = "auto"
    """Where decoded photos and masks stay for the next epoch, with the same pixels; auto takes RAM where a quarter
    of the free memory holds them, else the disk."""
    strict: bool = False
    """Stop at an unreadable photo instead of skipping it."""

    @model_validator(mode="after")
    def _photos_are_counted_in_one_way(self) -> Self:
        if self.max_images is not None and self.data_ratio != 1:
            raise ValueError(
                f"max_images ({self.max_images}) and data_ratio ({self.data_ratio:g}) both say how many photos to use: "
                "take one"
            )
        return self

    @model_validator(mode="after")
    def _columns_are_those_of_a_table(self) -> Self:
        names = ("image_column", "label_column", "mask_column")
        check_columns([self.dataset or ""], {name: getattr(self, name) for name in names})
        return self

    @property
    def name(self) -> str:
        """``dataset``, which the command has chosen where the user has not."""
        assert self.dataset is not None
        return self.dataset

    @property
    def fold_numbers(self) -> tuple[int, int] | None:
        """K and N of ``fold``."""
        if self.fold is None:
            return None
        part, _, count = self.fold.partition("/")
        return int(part), int(count)


class TargetKnobs(Section):
    """The knobs of a target, which are a section of its name in YAML and flat on the command line."""

    TARGET: ClassVar[str]
    """``package.module:Class`` of the ``Target`` that takes these knobs."""
    OPENING: ClassVar[tuple[str, ...]] = ()
    """Knobs of ``LabelledData`` that mean something for this target only."""

    def check_start(self, pretrained: str) -> None:
        """Refuse by ValueError weights that the target cannot begin with, by what the user calls them."""
