"""The knobs of ``simclrseg export``."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field

from simclrseg.exporters import EXPORTERS, FORMATS, PRECISIONS
from simclrseg.knobs.sections import Console, Section
from simclrseg.knobs.values import Common, Completes, DatasetName, Flag, PathText, Positional, Tells, Transient


def _suffixes() -> str:
    return f"Names end in {', '.join(f'{format.suffix} ({name})' for name, format in FORMATS.items())}."


class ExportModel(Section):
    """Model"""

    run: Annotated[PathText | None, Positional("[RUN]"), Completes("finetune_runs"), Transient()] = None
    """A fine-tuned run, by name or folder; the newest by default."""
    format: Annotated[str, EXPORTERS, Common(), Tells(_suffixes)] = "onnx"
    """Format of the file: an ONNX model, a torch.export program, or weights."""
    precision: Annotated[str, PRECISIONS, Common()] = "fp32"
    """Number format that the file computes with; int8 is calibrated on training photos."""
    opset: Annotated[int, Ge(18), Le(23)] = 18
    """Version of the ONNX operator set."""
    fixed_shape: tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)], Annotated[int, Ge(1)]] | None = None
    """Fixed number of photos, height and width, for runtimes that need them; any by default."""


class ExportCheck(Section):
    """Check"""

    calibrate: Annotated[DatasetName | None, Completes("datasets"), Common()] = None
    """Photos to calibrate and check on, instead of the run's own; masks are optional."""
    tolerance: Annotated[float, Gt(0), Lt(1), Common()] = 0.005
    """Largest change of IoU, or of a classifier share of photos with other labels, that fp16 or int8 may bring."""


class ExportOutput(Console):
    """Output"""

    output: Annotated[PathText | None, Flag("-o"), Completes("files"), Common(), Transient()] = None
    """File to write; by default model.onnx in the run's folder, or model.int8.onnx and the like; of weights, in its
    folder hub with a model card."""
    overwrite: Annotated[bool, Common(), Transient()] = False
    """Replace a file that exists."""
    inspect: Annotated[PathText | None, Completes("files"), Common(), Transient()] = None
    """Print inputs, outputs and metadata of this exported file, and export nothing."""


class ExportHub(Section):
    """Hugging Face Hub"""

    push: Annotated[str | None, Common(), Transient()] = None
    """Upload the weights and their model card to this repository, owner/name; it is created if it does not exist."""
    private: Annotated[bool, Transient()] = False
    """Create the repository as a private one."""
    licence: str | None = None
    """Licence for the model card, such as mit; none by default."""
    token: Annotated[str | None, Transient()] = None
    """Access token; by default $HF_TOKEN, else that of `hf auth login`."""


class ExportConfig(Section):
    """export"""

    model: ExportModel = Field(default_factory=ExportModel)
    check: ExportCheck = Field(default_factory=ExportCheck)
    hub: ExportHub = Field(default_factory=ExportHub)
    console: ExportOutput = Field(default_factory=ExportOutput)
