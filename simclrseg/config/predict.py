"""The knobs of ``simclrseg predict``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, Field, model_validator

from simclrseg.inference import OUTPUTS
from simclrseg.knobs.sections import Console, Section
from simclrseg.knobs.values import BandNames, Common, Completes, Flag, PathText, Positional, Transient


class PredictInput(Section):
    """Input"""

    inputs: Annotated[list[PathText], Positional("[INPUT...]"), Completes("files"), Transient()] = []
    """Photos, folders of photos, patterns such as 'photos/**/*.jpg', - for stdin, or example for a photo of a cat."""
    model: Annotated[PathText | None, Flag("-m"), Completes("models"), Common()] = None
    """A fine-tuned run or an exported .onnx file; by default the newest finished run, or where there are no runs yet
    pets-small, which comes with the tool and cuts out cats and dogs."""
    threshold: Annotated[Annotated[float, Gt(0), Lt(1)] | None, Common()] = None
    """Probability above which a pixel is foreground; the model's own by default."""
    bands: BandNames | None = None
    """Names of the bands of TIFFs that do not tell, in the files' order, as B02,B03,B04,B08."""
    max_pixels: Annotated[float, Ge(1)] = 178_956_970
    """Refuse larger photos, before they are decoded."""


class PredictMethod(Section):
    """Method"""

    tile: Annotated[Annotated[int, Ge(64), Le(8192)] | None, Common()] = None
    """Side in pixels of the tiles to predict in, at the photo's own scale; by default photos are resized,
    or cut into tiles, as in training."""
    overlap: Annotated[float, Ge(0), Le(0.9)] = 0.5
    """Fraction of a tile that the next one covers too; they are blended by a Gaussian."""
    tta: Annotated[bool, Common()] = False
    """Test-time augmentation: the mean over photo and mirror image, at half the speed."""


class PredictHardware(Section):
    """Hardware"""

    device: Annotated[Literal["auto", "cpu", "cuda", "tensorrt"], Common()] = "auto"
    """Where to compute; auto takes the GPU when there is one."""
    workers: Annotated[int, Ge(1)] | None = None
    """Photos that are worked on at once; by default one per CPU core, of a page two."""


class PredictOutput(Console):
    """Output"""

    output: Annotated[PathText | None, Flag("-o"), Completes("files"), Common(), Transient()] = None
    """File (.png, .tif, .tiff, .geojson, .npy, .json, .txt), folder for several photos, or - for stdout; by default
    <photo>.mask.png beside each. A classifier writes a table (.csv, .json), by default none."""
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


def _given(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty: name an address, such as 127.0.0.1")
    return text


class PredictPage(Section):
    """Page"""

    serve: Annotated[bool, Common(), Transient()] = False
    """Open a local page to try the model, which takes photos of other programs too; needs
    pip install 'simclrseg[serve]'."""
    host: Annotated[str, AfterValidator(_given)] = "127.0.0.1"
    """Address that the page listens on; others than 127.0.0.1 may be reached from other machines."""
    port: Annotated[int, Ge(0), Le(65535)] = 8000
    """Port of the page; 0 takes a free one."""

    @model_validator(mode="after")
    def _an_address_is_that_of_a_page(self) -> Self:
        if not self.serve and (own := self.changed(("host", "port"))):
            raise ValueError(f"{own[0]} ({getattr(self, own[0])}) is for a page: pass --serve too")
        return self


class PredictConfig(Section):
    """predict"""

    input: PredictInput = Field(default_factory=PredictInput)
    method: PredictMethod = Field(default_factory=PredictMethod)
    hardware: PredictHardware = Field(default_factory=PredictHardware)
    console: PredictOutput = Field(default_factory=PredictOutput)
    page: PredictPage = Field(default_factory=PredictPage)

    @model_validator(mode="after")
    def _a_page_gets_its_photos_there_and_writes_no_file(self) -> Self:
        console = self.console
        files = {
            "INPUT": self.input.inputs,
            "-o": console.output,
            "--as": console.outputs != ["mask"],
            "--keep-orientation": console.keep_orientation,
            "--overwrite": console.overwrite,
            "--skip-existing": console.skip_existing,
            "--json": console.as_json,
        }
        if self.page.serve and (meant := [name for name, given in files.items() if given]):
            raise ValueError(f"--serve gets its photos from the page and writes no files: leave out {', '.join(meant)}")
        return self
