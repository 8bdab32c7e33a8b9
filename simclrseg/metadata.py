"""Metadata of a model file: in the safetensors header, and in ONNX with the prefix ``simclrseg.``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from simclrseg.errors import ModelFileError

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


class ModelMetadata(BaseModel):
    """Everything needed to use a weights file without its run (design §5)."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)  # help needs none

    format_version: int = FORMAT_VERSION
    task: str
    """The weights' task: ``backbone``, ``segmentation``, ``classification``, or a method of pretraining where they
    are of its whole network."""
    method: str | None = None
    """How they were pretrained: ``simclr``, ..."""
    encoder: str
    """Name in segmentation-models-pytorch's vocabulary."""
    decoder: str | None = None
    dropout: float = 0.0
    """Rate of the dropout before the head, in training."""
    in_channels: int = 3
    bands: tuple[str, ...] = RGB
    """Names of the input's channels, as ``Dataset.bands`` has them."""
    full_scale: int = 255
    """The stored value that is 1.0: 255 for 8-bit pixels; above that they have 16 bits."""
    reach: tuple[float, float] | None = None
    """The stored values of photos of more than 8 bits that become 0 and 255; None where none were learned from."""
    stem: str = "imagenet"
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Channel means that the input is normalised with, for pixels divided by ``full_scale``."""
    std: tuple[float, ...] = IMAGENET_STD
    image_size: int
    """Side of the square training images, in pixels."""
    resize: Literal["squash"] = "squash"
    """How a picture is brought to ``image_size``: without keeping its aspect."""
    classes: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    threshold: float | None = None
    """Probability above which a pixel is foreground; None where each class has its own probability."""
    border: str | None = None
    dataset: str = ""
    include_test: bool = False
    """True where images of a published test list were learned from."""
    data: dict[str, Any] = {}
    """The data section of the configuration that it was fine-tuned with: what its dataset and split follow from."""
    seen: str = ""
    """A record of the images that were learned from: see data/seen.py."""
    split_seed: int | None = None
    test_hash: str | None = None
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
    epochs: int = 0
    """Epochs of the training that wrote this file."""
    precision: str = "fp32"
    """Number format that an exported file computes with."""
    sides_multiple_of: int = 1
    """Pictures go in with height and width that are multiples of this; where it is not 1, of at least twice it."""
    checks: dict[str, float | int | str] = {}
    """How far an exported file was found to agree with the network (``Agreement.facts``)."""
    version: str = ""
    commit: str | None = None

    @property
    def takes_photos(self) -> bool:
        """Tell whether it takes red, green and blue in 8 bits, as any picture can be brought to, not bands of TIFFs."""
        return (self.in_channels, self.bands, self.full_scale) == (len(RGB), RGB, 255)

    def to_strings(self, prefix: str = "") -> dict[str, str]:
        """String pairs for a file header; each value is JSON."""
        return {prefix + name: json.dumps(value) for name, value in self.model_dump(mode="json").items()}

    @classmethod
    def from_strings(cls, header: Mapping[str, str], prefix: str = "") -> Self | None:
        """Read what ``to_strings`` wrote; None when the header holds nothing of ours.

        Raises:
            ModelFileError: if it is ours but cannot be read, or is of a newer format.
        """
        ours = {name: header[prefix + name] for name in cls.model_fields if prefix + name in header}
        if "format_version" not in ours:
            return None
        try:
            values = {name: json.loads(text) for name, text in ours.items()}
            if values["format_version"] > FORMAT_VERSION:
                raise ModelFileError(
                    f"the file has format {values['format_version']}, this version reads up to {FORMAT_VERSION}",
                    "update simclrseg (pip install -U simclrseg)",
                )
            return cls.model_validate(values)
        except (json.JSONDecodeError, ValidationError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelFileError(f"the file's metadata cannot be read ({reason})", "export it again") from error


def numbered_bands(count: int) -> tuple[str, ...]:
    """Names of bands of which nothing is known: ``band1``, ``band2``."""
    return tuple(f"band{number}" for number in range(1, count + 1))


def voc_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Distinct colours for class ids, black first: the colour map of Pascal VOC's masks."""

    def level(index: int, channel: int) -> int:  # from every third bit of the id, the lowest of them highest
        return sum((index >> 3 * bit + channel & 1) << 7 - bit for bit in range(8))

    return tuple((level(index, 0), level(index, 1), level(index, 2)) for index in range(count))
