"""What the knobs of a target are made of, and those of labelled images, whatever is learned from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, model_validator

from simclrseg.errors import DataError
from simclrseg.knobs.sections import Section
from simclrseg.knobs.values import (
    BandNames,
    ClassesName,
    Common,
    Completes,
    DatasetName,
    Flag,
    KeyOnly,
    NormalizationName,
    Positional,
    Tells,
    check_columns,
    dataset_names,
)
from simclrseg.knobs.words import Word, canonical_words, parse_words
from simclrseg.labels import EXCLUSIVE, NAMING, RULES
from simclrseg.metadata import Resize


def _fold(text: str) -> str:
    part, _, count = text.partition("/")
    numbers = all(re.fullmatch(r"[0-9]{1,9}", number) for number in (part, count))
    if not (numbers and 1 <= int(part) <= int(count) and int(count) >= 2):
        raise ValueError(f"{text!r} is not K/N, such as 1/5, with K from 1 to N and N at least 2")
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text


def mask_words(text: str) -> tuple[Word, ...]:
    """The rules of ``--masks``; ValueError for what is none."""
    return parse_words(text, "rule of masks", RULES, naming=NAMING)


def _mask_rules(text: str) -> str:
    words = mask_words(text)
    names = {word.name for word in words}
    for word in words:
        if RULES[word.name] and word.number is None and not word.text:
            example = "a name, as folder:masks" if word.name in NAMING else "a number, as threshold:128"
            raise ValueError(f"{text!r}: {word.name} takes {example}")
    for first, second in EXCLUSIVE:
        if {first, second} <= names:
            raise ValueError(f"{text!r}: {first} and {second} contradict each other, take one of them")
    return canonical_words(text, RULES)


MaskRules = Annotated[str, AfterValidator(_mask_rules), Completes("mask_rules")]


Share = Annotated[float, Gt(0), Lt(1)]


class LabelledData(Section):
    """Data"""

    dataset: Annotated[DatasetName | None, Positional("[DATASET]", named=True), Flag("-d"), Tells(dataset_names)] = None
    """Labelled photos: a name, hf:owner/name, or a folder with images/ and masks/, labels of COCO, YOLO or LabelMe, or
    one folder a class. By default the labelled set of the pretraining's, as oxford_pets is of cats_vs_dogs."""
    unlabelled: Annotated[list[DatasetName], Common()] = []
    """More photos of the same kind, whose masks are not read, to train on beside those with masks: a name or a folder;
    repeat it for several. Development photos outside --data-ratio count too, test photos never."""
    data_ratio: Annotated[float, Gt(0), Le(1), Common()] = 1.0
    """Fraction of the development photos, which are all but the test photos, to use."""
    max_images: Annotated[int, Ge(2)] | None = None
    """Development photos to use, instead of --data-ratio; a smaller number takes a subset of a larger."""
    image_size: Annotated[int, Ge(32), Le(2048), Common()] = 256
    """Side in pixels of the squares that photos are brought to, by --resize."""
    resize: Resize = "squash"
    """How photos become such squares. squash: the aspect is not kept. pad: it is, and what is missing is ignored.
    tile: crops at the photo's own scale, half of them around foreground, and prediction in tiles, for large photos of
    small things; an epoch takes as many of each photo as cover it, 2,048 in all or one of each."""
    augmentation: Literal["none", "flip", "color", "standard"] = "standard"
    """Random changes of training photos: flip left and right; color jitters colours mildly too; standard crops too."""
    test_split: Literal["official", "random"] | Share = "official"
    """Test photos: those of the published list, if there is one, or a random 20 %, or this fraction of all photos at
    random."""
    validation: Share | None = None
    """Fraction of the development photos in use to validate on; by default those of a list, else a tenth."""
    split_seed: Annotated[int, Ge(0)] = 0
    """Seed of the random split."""
    fold: Annotated[str, AfterValidator(_fold)] | None = None
    """K/N, for cross-validation: validate on part K of the development photos in N parts."""
    group_by: Annotated[str, AfterValidator(_pattern)] | None = None
    r"""Regular expression of groups in paths, such as 'patient\d+', which are not split."""
    border: Literal["pet", "background", "ignore", "class"] = "pet"
    """What the border pixels of Oxford Pets count as; class makes them a third class."""
    classes: list[str] = []
    """Class to segment, all others being background; repeat it for several. Or the number of classes in the masks."""
    classes_file: ClassesName | None = None
    """YAML file of class names, and of their colours if the masks are RGB."""
    masks: MaskRules | None = None
    """How masks are read: threshold:128, alpha, foreground, inverted, stored, upright, folder:NAME, sums of them."""
    normalization: NormalizationName | None = None
    """Mean and std of the pixels: imagenet, dataset (measured on the training photos), or a YAML file. By default
    those of the start weights, else imagenet for RGB and dataset for other bands."""
    bands: BandNames | None = None
    """Bands of TIFFs to train on, by name, as B04,B03,B02; of files that do not name theirs, the names of all."""
    image_column: str | None = None
    """Column of the photos in a dataset of the Hub; by default the only column of images."""
    label_column: str | None = None
    """Column of the classes in a dataset of the Hub; by default the only column of class labels."""
    mask_column: str | None = None
    """Column of the masks in a dataset of the Hub; by default the other column of images."""
    cache: Literal["auto", "ram", "disk", "none"] = "auto"
    """Where decoded photos and masks are kept for the next epoch; auto is RAM if they fit into a quarter of what is
    free, else disk."""
    strict: bool = False
    """Stop at a photo that cannot be read, instead of leaving it out."""

    @model_validator(mode="after")
    def _images_are_counted_in_one_way(self) -> Self:
        if self.max_images is not None and self.data_ratio != 1:
            raise ValueError(
                f"max_images ({self.max_images}) and data_ratio ({self.data_ratio:g}) both say how many photos to use: "
                "take one"
            )
        return self

    @model_validator(mode="after")
    def _validation_is_said_in_one_way(self) -> Self:
        if self.fold is not None and self.validation is not None:
            raise ValueError(
                f"validation ({self.validation:g}) and fold ({self.fold}) both say which photos to validate on: take "
                "one"
            )
        return self

    @model_validator(mode="after")
    def _columns_are_those_of_a_table(self) -> Self:
        names = ("image_column", "label_column", "mask_column")
        check_columns([self.dataset or ""], {name: getattr(self, name) for name in names})
        return self

    @property
    def name(self) -> str:
        """``dataset``, which the command has chosen where the user has not; a DataError where a file lost it."""
        if self.dataset is None:
            raise DataError("the configuration names no dataset", "name the photos with --dataset", option="dataset")
        return self.dataset

    @property
    def fold_numbers(self) -> tuple[int, int] | None:
        """K and N of ``fold``."""
        if self.fold is None:
            return None
        part, _, count = self.fold.partition("/")
        return int(part), int(count)


class ConsistencyKnobs(Section):
    """Unlabelled photos (keys only)"""

    threshold: Annotated[float, Ge(0.5), Lt(1), KeyOnly()] = 0.95
    """Probability from which the teacher, which is the average of the weights, is believed in a pixel."""
    weight: Annotated[float, Gt(0), KeyOnly()] = 1.0
    """Weight of the unlabelled photos in the loss, beside 1 of the labelled ones."""
    ramp: Annotated[tuple[Annotated[float, Ge(0)], Annotated[float, Ge(0)]], KeyOnly()] = (0.2, 0.4)
    """When their weight begins to grow from 0, and when it is reached: below 1 as a fraction of the run, from 1 on in
    epochs."""

    balance: Annotated[bool, KeyOnly()] = True
    """Believe the surest pixels alone, half of them or more, of a class that the teacher sees more often than the masks
    have it; false where photos without masks have other proportions."""

    def ramp_epochs(self, epochs: int) -> tuple[float, float]:
        """Both ends of the ramp in epochs."""
        first, last = (at * epochs if at < 1 else at for at in self.ramp)
        return first, last


class TargetKnobs(Section):
    """The knobs of a target, which are a section of its name in YAML and flat on the command line."""

    TARGET: ClassVar[str]
    """``package.module:Class`` of the ``Target`` that takes these knobs."""
    OPENING: ClassVar[tuple[str, ...]] = ()
    """Knobs of ``LabelledData`` that mean something for this target only."""

    def of_another_encoder(self) -> Mapping[str, Any]:
        """Knobs that go with the encoder of now, and what they are for a small convolutional one in its place."""
        return {}

    def check_start(self, pretrained: str) -> None:
        """Refuse by ValueError weights that the target cannot begin with, by what the user calls them."""
