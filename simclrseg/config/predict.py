"""The knobs of ``simclrseg predict``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field, model_validator

from simclrseg.inference import OUTPUTS
from simclrseg.knobs.sections import Console, Section
from simclrseg.knobs.values import BandNames, Common, Completes, Flag, PathText, Positional, Transient


class PredictInput(Section):
    """Input"""

    inputs: Annotated[list[PathText], Positional("INPUT..."), Completes("files"), Transient()]
    """Photos, folders of photos, patterns such as 'photos/**/*.jpg', or - for stdin."""
    model: Annotated[PathText | None, Flag("-m"), Completes("models"), Common()] = None
    """A fine-tuned run or an exported .onnx file; the newest finished run by default."""
    threshold: Annotated[Annotated[float, Gt(0), Lt(1)] | None, Common()] = None
    """Probability above which a pixel is foreground; the model's own by default."""
    bands: BandNames | None = None
    """Names of the bands of TIFFs that do not tell, in the files' order, as B02,B03,B04,B08."""
    max_pixels: Annotated[float, Ge(1)] = 178_956_970
    """Refuse larger photos, before they are decoded."""


class PredictMethod(Section):
    """Method"""

    tile: Annotated[Annotated[int, Ge(64), Le(8192)] | None, Common()] = None
    """Side in pixels of the tiles to predict in, at the photo's own scale; by default the whole photo is resized to
    the training size."""
    overlap: Annotated[float, Ge(0), Le(0.9)] = 0.5
    """Fraction of a tile that the next one covers too; they are blended by a Gaussian."""
    tta: Annotated[bool, Common()] = False
    """Test-time augmentation: the mean over photo and mirror image, at half the speed."""


class PredictHardware(Section):
    """Hardware"""

    device: Annotated[Literal["auto", "cpu", "cuda", "tensorrt"], Common()] = "auto"
    """Where to compute; auto takes the GPU when there is one."""
    workers: Annotated[int, Ge(1)] | None = None
    """Photos that are worked on at once; by default one per CPU core."""


class PredictOutput(Console):
    """Output"""

    output: Annotated[PathText | None, Flag("-o"), Completes("files"), Common(), Transient()] = None
    """File (.png, .tif, .npy, .json, .txt), folder for several photos, or - for stdout; by default <photo>.mask.png
    beside each."""
    outputs: Annotated[list[Annotated[str, OUTPUTS]], Flag("--as"), Common()] = ["mask"]
    """What to write for each photo; repeat it for several."""
    keep_orientation: bool = False
    """Write masks in the orientation in which the photo is stored, not upright as its EXIF says."""
    overwrite: Annotated[bool, Common(), Transient()] = False
    """Replace files that exist."""
    skip_existing: Annotated[bool, Common(), Transient()] = False
    """Skip photos whose files exist, as after an interruption."""

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
