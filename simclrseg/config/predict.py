"""The knobs of ``simclrseg predict``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field, model_validator

from simclrseg.inference import OUTPUTS
from simclrseg.knobs.sections import Console, Section
from simclrseg.knobs.values import Common, Completes, Flag, PathText, Positional, Transient


class PredictInput(Section):
    """Input"""

    inputs: Annotated[list[PathText], Positional("INPUT..."), Completes("files"), Transient()]
    """Photos, folders of photos, patterns such as 'photos/**/*.jpg', or - for stdin."""
    model: Annotated[PathText | None, Flag("-m"), Completes("models"), Common()] = None
    """A fine-tuned run or an exported .onnx file; the newest finished run by default."""
    threshold: Annotated[Annotated[float, Gt(0), Lt(1)] | None, Common()] = None
    """Probability above which a pixel is foreground; the model's own by default."""
    max_pixels: Annotated[float, Ge(1)] = 178_956_970
    """Refuse larger pictures before decoding them."""


class PredictMethod(Section):
    """Method"""

    tile: Annotated[Annotated[int, Ge(64), Le(8192)] | None, Common()] = None
    """Predict in tiles of this side, in pixels of the photo; by default whole photos at the training size."""
    overlap: Annotated[float, Ge(0), Le(0.9)] = 0.5
    """Share of a tile that its neighbour covers too; they are blended by a Gaussian."""
    tta: Annotated[bool, Common()] = False
    """Also predict the mirror image and take the mean: half as fast."""


class PredictHardware(Section):
    """Hardware"""

    device: Annotated[Literal["auto", "cpu", "cuda", "tensorrt"], Common()] = "auto"
    """Where to compute; auto takes the GPU when there is one."""
    workers: Annotated[int, Ge(1)] | None = None
    """Photos in work at once; by default one per CPU core."""


class PredictOutput(Console):
    """Output"""

    output: Annotated[PathText | None, Flag("-o"), Completes("files"), Common(), Transient()] = None
    """File to write (.png, .npy or .json), folder for many, or - for stdout; by default <photo>.mask.png beside each
    photo."""
    outputs: Annotated[list[Annotated[str, OUTPUTS]], Flag("--as"), Common()] = ["mask"]
    """What to write of each photo; repeat it for several."""
    keep_orientation: bool = False
    """Write files as the photo is stored, not turned upright as EXIF asks."""
    overwrite: Annotated[bool, Common(), Transient()] = False
    """Replace files that exist."""
    skip_existing: Annotated[bool, Common(), Transient()] = False
    """Leave out what exists, as after an interruption."""

    @model_validator(mode="after")
    def _there_is_one_way_with_what_exists(self) -> Self:
        if self.overwrite and self.skip_existing:
            raise ValueError("overwrite and skip_existing exclude each other: take one")
        if not self.outputs:
            raise ValueError("outputs is empty: take mask")
        return self


class PredictConfig(Section):
    """predict"""

    input: PredictInput
    method: PredictMethod = Field(default_factory=PredictMethod)
    hardware: PredictHardware = Field(default_factory=PredictHardware)
    console: PredictOutput = Field(default_factory=PredictOutput)
