"""Metadata of a model file: in the safetensors header, and in ONNX with the prefix ``simclrseg.``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, Strict

from simclrseg.errors import ModelFileError
from simclrseg.system.content import BadContent, fitting, parse_json

ONNX_PREFIX = "simclrseg."
PROGRAM_ENTRY = "simclrseg.json"
"""Where a ``.pt2`` file keeps its metadata."""
FORMAT_VERSION = 1
IGNORE = 255
"""The mask value of pixels that neither train nor count, in every file and array."""
RGB = ("red", "green", "blue")
"""The bands of a photo, in their order."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MOST_BANDS = 4096
Resize = Literal["squash", "pad", "tile"]
"""How pictures are brought to the squares that a network sees: see images/framing.py."""
LARGEST_SIDE = 8192
"""Pixels of a square picture's side."""
SMALLEST_STD = 1e-6
"""Of pixels in [0, 1]: less would turn rounding into pictures."""

_Count = Annotated[int, Strict(), Ge(0), Lt(1 << 53)]


def _short(text: str) -> str:
    if len(text) > 1000:
        raise ValueError("1,000 letters are possible")
    return text


def _given(text: str) -> str:
    if not text:
        raise ValueError("it must not be empty")
    return text


_Word = Annotated[str, AfterValidator(_short)]  # pydantic's own limits refuse the bytes of names that are no UTF-8
_Level = Annotated[int, Strict(), Ge(0), Le(255)]
_Number = Annotated[FiniteFloat, Ge(-1e6), Le(1e6)]


class ModelMetadata(BaseModel):
    """Everything needed to use a weights file without its run (design §5).

    ``from_strings`` also sees that the fields fit one another.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)  # help needs none

    format_version: Annotated[int, Strict(), Ge(1)] = FORMAT_VERSION
    task: Annotated[_Word, AfterValidator(_given)]
    """The weights' task: ``backbone``, ``segmentation``, ``classification``, or a method of pretraining where they
    are of its whole network."""
    method: _Word | None = None
    """How they were pretrained: ``simclr``, ..."""
    encoder: Annotated[_Word, AfterValidator(_given)]
    """Name in segmentation-models-pytorch's vocabulary."""
    decoder: _Word | None = None
    dropout: Annotated[float, Strict(), Ge(0), Lt(1)] = 0.0
    """Rate of the dropout before the head, in training."""
    in_channels: Annotated[int, Strict(), Ge(1), Le(MOST_BANDS)] = 3
    bands: Annotated[tuple[_Word, ...], MaxLen(MOST_BANDS)] = RGB
    """Names of the input's channels, as ``Dataset.bands`` has them."""
    full_scale: Annotated[int, Strict(), Ge(1), Le(65535)] = 255
    """The stored value that is 1.0: 255 for 8-bit pixels; above that they have 16 bits."""
    reach: tuple[FiniteFloat, FiniteFloat] | None = None
    """The stored values of photos of more than 8 bits that become 0 and 255; None where none were learned from."""
    stem: Literal["imagenet", "cifar"] = "imagenet"
    mean: Annotated[tuple[_Number, ...], MaxLen(MOST_BANDS)] = IMAGENET_MEAN
    """Channel means that the input is normalised with, for pixels divided by ``full_scale``."""
    std: Annotated[tuple[Annotated[_Number, Ge(SMALLEST_STD)], ...], MaxLen(MOST_BANDS)] = IMAGENET_STD
    image_size: Annotated[int, Strict(), Ge(1), Le(LARGEST_SIDE)]
    """Side of the square training images, in pixels."""
    resize: Resize = "squash"
    """How a picture is brought to ``image_size``: without keeping its aspect, padded, or in tiles of its own scale."""
    classes: Annotated[tuple[_Word, ...], MaxLen(100_000)] = ()
    colours: Annotated[tuple[tuple[_Level, _Level, _Level], ...], MaxLen(100_000)] = ()
    threshold: Annotated[float, Strict(), Gt(0), Lt(1)] | None = None
    """Probability above which a pixel is foreground; None where each class has its own probability."""
    border: Literal["pet", "background", "ignore", "class"] | None = None
    dataset: str = ""
    include_test: Annotated[bool, Strict()] = False
    """True where images of a published test list were learned from."""
    data: dict[str, Any] = {}
    """The data section of the configuration that it was fine-tuned with: what its dataset and split follow from."""
    seen: str = ""
    """A record of the images that were learned from: see data/seen.py."""
    split_seed: Annotated[int, Strict()] | None = None
    test_hash: _Word | None = None
    metrics: dict[str, float] = {}
    without_learning: dict[str, float] = {}
    """What some of these are with the same class everywhere; of a backbone, before it was pretrained."""
    doubts: tuple[str, ...] = ()
    """What makes them mean little, a line each."""
    pretrained: str | None = None
    """Where the encoder's weights came from."""
    teacher: str | None = None
    """What a backbone was distilled from."""
    terms: tuple[str, ...] = ()
    """Licences of others' weights that these began with or learned from, as far as they are known."""
    epochs: _Count = 0
    """Epochs of the training that wrote this file."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Number format that an exported file computes with."""
    sides_multiple_of: Annotated[int, Strict(), Ge(1), Le(1024)] = 1
    """Pictures go in with height and width that are multiples of this; where it is not 1, of at least twice it."""
    checks: dict[str, float | int | str] = {}
    """How far an exported file was found to agree with the network (``Agreement.facts``)."""
    version: _Word = ""
    commit: _Word | None = None

    @property
    def takes_photos(self) -> bool:
        """Tell whether it takes red, green and blue in 8 bits, as any picture can be brought to, not bands of TIFFs."""
        return (self.in_channels, self.bands, self.full_scale) == (len(RGB), RGB, 255)

    @property
    def example(self) -> str:
        """Name of a picture that it would take, for commands that are shown."""
        return "photo.jpg" if self.takes_photos else "scene.tif"

    def to_strings(self, prefix: str = "") -> dict[str, str]:
        """String pairs for a file header; each value is JSON."""
        return {prefix + name: json.dumps(value) for name, value in self.model_dump(mode="json").items()}

    @classmethod
    def from_strings(cls, header: Mapping[str, str], prefix: str = "") -> Self | None:
        """Read what ``to_strings`` wrote; None when the header holds nothing of ours.

        Raises:
            ModelFileError: if it is ours but cannot be read, or is of a newer format; the message says which key has
                which value.
        """
        ours = {name: header[prefix + name] for name in cls.model_fields if prefix + name in header}
        if "format_version" not in ours:
            return None
        try:
            return cls._read(ours)
        except BadContent as error:
            raise ModelFileError(
                f"its metadata cannot be read ({error})", "export it again, or fetch it again"
            ) from error

    @classmethod
    def _read(cls, texts: Mapping[str, str]) -> Self:
        values: dict[str, Any] = {}
        for name, text in texts.items():
            try:
                values[name] = parse_json(text)
            except BadContent as error:
                raise BadContent(f"{name}: {error.reason}") from error
            version = values.get("format_version")
            if isinstance(version, int) and version > FORMAT_VERSION:
                raise ModelFileError(
                    f"a newer version made it, in format {version}, and this one reads up to {FORMAT_VERSION}",
                    "update simclrseg (pip install -U simclrseg)",
                )
        found = fitting(cls, values)
        found._check()
        return found

    def _check(self) -> None:
        """Refuse fields that do not fit one another."""
        for name, given in (("bands", self.bands), ("mean", self.mean), ("std", self.std)):
            if len(given) != self.in_channels:
                raise BadContent(f"{name} has {len(given):,} values, and in_channels is {self.in_channels:,}")
        if len(set(self.classes)) < len(self.classes):
            raise BadContent("classes names one twice")
        if self.colours and len(self.colours) != len(self.classes):
            raise BadContent(f"colours has {len(self.colours):,} values, and classes {len(self.classes):,}")
        if self.colours and len(self.classes) >= IGNORE:
            raise BadContent(f"classes has {len(self.classes):,} values, and pixels can be of {IGNORE - 1}")
        if self.reach is not None and not self.reach[0] < self.reach[1]:
            raise BadContent(f"reach is {list(self.reach)}: the second must be the larger")


def numbered_bands(count: int) -> tuple[str, ...]:
    """Names of bands of which nothing is known: ``band1``, ``band2``."""
    return tuple(f"band{number}" for number in range(1, count + 1))


def voc_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Distinct colours for class ids, black first: the colour map of Pascal VOC's masks."""

    def level(index: int, channel: int) -> int:  # from every third bit of the id, the lowest of them highest
        return sum((index >> 3 * bit + channel & 1) << 7 - bit for bit in range(8))

    return tuple((level(index, 0), level(index, 1), level(index, 2)) for index in range(count))
