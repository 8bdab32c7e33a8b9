"""A trained network as one ONNX file: photos in, masks out, checked against PyTorch; see classification.py for labels.

Shapes: N photos of H x W pixels, any of them; C classes.

    image        (N, H, W, bands)  uint8, or uint16 where the full scale is above 255
    probability  (N, H, W) float32 of the foreground, or (N, C, H, W) of each class
    mask         (N, H, W) uint8: 1 where the probability exceeds the threshold, else 0; or the likeliest class
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simclrseg.errors import GateError
from simclrseg.exporters import PRECISIONS
from simclrseg.exporters.classification import DeployClassifier
from simclrseg.exporters.deployed import Deployed
from simclrseg.exporters.tracing import traceable
from simclrseg.exporters.verification import STRIDE, Agreement, Answer, check_exact, check_rounded, compare, in_batches
from simclrseg.metadata import ONNX_PREFIX, ModelMetadata
from simclrseg.system.files import held_back, replacing

log = logging.getLogger(__name__)

INPUTS = ("image",)
LARGEST = 2**31  # bytes; protobuf, which ONNX files are written with, has no larger messages
NEWEST = 20  # opset of PyTorch's exporter; onnx converts to newer ones


class Deploy(Deployed):
    """A network that segments: normalised (N, bands, H, W), H and W multiples of 32 -> logits (N, 1 or C, H, W).

    A convolutional network sees the picture padded to multiples of 32, a vision transformer the picture brought to the
    size that it was trained at; its logits are brought back. Where the metadata have no threshold, each class has its
    own probability.
    """

    OUTPUTS = ("probability", "mask")

    def __init__(self, model: nn.Module, metadata: ModelMetadata) -> None:
        super().__init__(model, metadata)
        self.threshold = metadata.threshold

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, bands) uint8 or uint16 -> probability and mask."""
        x = self.normalized(image)
        logits = self._padded(x) if self.side is None else self._resized(x, self.side)
        if self.threshold is not None:
            probability = torch.sigmoid(logits[:, 0])
            return probability, (probability > self.threshold).to(torch.uint8)
        return torch.softmax(logits, dim=1), logits.argmax(dim=1).to(torch.uint8)

    def _padded(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        # written so, and not as -height % 32, because torch.export can bound this
        below = (height + STRIDE - 1) // STRIDE * STRIDE - height
        right = (width + STRIDE - 1) // STRIDE * STRIDE - width
        logits: Tensor = self.model(F.pad(x, (0, right, 0, below)))
        return logits[:, :, :height, :width]

    def _resized(self, x: Tensor, side: int) -> Tensor:
        logits = self.model(F.interpolate(x, size=(side, side), mode="bilinear"))
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear")

    @classmethod
    def described(cls, metadata: ModelMetadata, shape: list[Any]) -> list[dict[str, Any]]:
        classes = [] if metadata.threshold is not None else [len(metadata.classes)]
        return [
            {"name": cls.OUTPUTS[0], "type": "float32", "shape": [shape[0], *classes, *shape[1:]]},
            {"name": cls.OUTPUTS[1], "type": "uint8", "shape": shape},
        ]


GRAPHS: dict[str, type[Deployed]] = {"segmentation": Deploy, "classification": DeployClassifier}
"""By the task in the metadata: the graph, with its outputs, of which the first is a probability and the second ids."""


def export_onnx(
    model: nn.Module,
    path: Path,
    metadata: ModelMetadata,
    *,
    precision: str = "fp32",
    photos: Sequence[np.ndarray] = (),
    truths: Sequence[np.ndarray] = (),
    calibration: Sequence[np.ndarray] = (),
    tolerance: float = 0.005,
    opset: int = 18,
    fixed_shape: tuple[int, int, int] | None = None,
) -> Agreement:
    """Write the network as one ONNX file that holds its preprocessing and metadata, if it passes a check.

    The network itself is not changed, whatever device and precision it was trained with.

    Args:
        model: (N, bands, H, W) -> logits (N, 1, H, W) where the metadata has a threshold, else (N, C, H, W).
        precision: what the file computes with, of PRECISIONS; photos go in as they are for all of them.
        photos: real pictures (H, W, bands) to check the file on, besides generated ones; squashed to the training size.
        truths: their masks (H, W), or none.
        calibration: pictures that are not among ``photos``, for a precision that needs them.
        tolerance: by how much the IoU may change where the precision is not that of the network.
        opset: version of the ONNX operators.
        fixed_shape: the only (N, H, W) that the file takes; any by default.

    Raises:
        GateError: if the network cannot be exported, or the file and the network disagree; there is no file then.
        OutputError: if the file cannot be written.
    """
    target = PRECISIONS[precision]
    if target.calibrated and not calibration:
        raise GateError(
            f"--precision {precision} is calibrated on photos, and there are none",
            "pass --calibrate FOLDER",
            option="precision",
            value=precision,
        )
    log.info(f"exporting {path.name} and comparing it with the network")
    network = portable(model, metadata)
    traced = _traced(network, metadata, opset=opset, fixed_shape=fixed_shape)
    with replacing(path) as temporary:
        onnx.save(traced, temporary)
        shapes = shapes_to_check(metadata, fixed_shape)
        with quietly():
            target(temporary, [batch for batch, _ in in_batches(calibration, shapes[0])])
        agreement = compare(
            answer_of(network), _answer_of_file(temporary, network.OUTPUTS), metadata, shapes, photos, truths
        )
        if target.exact:
            check_exact(agreement)
        else:
            check_rounded(agreement, tolerance)
        _describe(temporary, metadata.model_copy(update={"precision": precision, "checks": agreement.facts()}))
    return agreement


def portable(model: nn.Module, metadata: ModelMetadata) -> Deployed:
    """A float32 copy on the CPU, in evaluation mode; the original may go on training."""
    return GRAPHS[metadata.task](copy.deepcopy(model), metadata).cpu().float().eval()


def pixel_type(metadata: ModelMetadata) -> torch.dtype:
    """Type of stored pixels: 16 bits where the full scale does not fit into 8."""
    return torch.uint8 if metadata.full_scale <= 255 else torch.uint16


def answer_of(network: nn.Module) -> Answer:
    """The network as a function of arrays, for ``compare``."""

    def answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            probability, ids = network(torch.from_numpy(images))
        return probability.numpy(), ids.numpy()

    return answer


def shapes_to_check(
    metadata: ModelMetadata, fixed_shape: tuple[int, int, int] | None = None
) -> list[tuple[int, int, int]]:
    """(N, H, W) of generated pictures: sizes that need no padding, some and much, one and three at a time."""
    if fixed_shape:
        return [fixed_shape]
    side = metadata.image_size
    sizes = ((side, side), (2 * STRIDE + 5, 3 * STRIDE + 7), (5 * STRIDE, STRIDE + 1))
    return [(count, height, width) for height, width in sizes for count in (1, 3)]


def _traced(
    network: Deployed, metadata: ModelMetadata, *, opset: int, fixed_shape: tuple[int, int, int] | None
) -> onnx.ModelProto:
    """The network as a graph.

    PyTorch's older exporter runs the network once and writes down what it computes: a second, where the newer takes ten
    to sixty for its symbolic sizes. Where that run made a number of a size, the file fails its check at other sizes.
    """
    if sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()) >= LARGEST:
        raise GateError(
            "the network has more than 2 GB of weights, and an ONNX file holds no more", "use --format torch"
        )
    shape = (*(fixed_shape or (2, 2 * STRIDE + 1, 3 * STRIDE + 1)), metadata.in_channels)
    sizes: list[str | int] = [*(fixed_shape or ("batch", "height", "width"))]
    tensors = [(*INPUTS, sizes), *((output["name"], output["shape"]) for output in network.described(metadata, sizes))]
    written = io.BytesIO()
    try:
        with quietly(), held_back(1), traceable(network, metadata.image_size) as twin:
            torch.onnx.export(
                twin,
                (torch.zeros(shape, dtype=torch.uint8),),
                written,  # type: ignore[arg-type]  # torch's stubs know of files only
                dynamo=False,
                input_names=[*INPUTS],
                output_names=[*network.OUTPUTS],
                dynamic_axes={
                    name: {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}
                    for name, shape in tensors
                },
                opset_version=min(opset, NEWEST),
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise GateError(f"PyTorch cannot export a network with encoder {metadata.encoder}: {reason}") from error
    model = onnx.load_from_string(written.getvalue())
    if opset > NEWEST:
        model = onnx.version_converter.convert_version(model, opset)
    if (
        pixel_type(metadata) is torch.uint16
    ):  # which the exporter does not know; what takes the pixels takes any integers
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT16
    return model


def _answer_of_file(path: Path, outputs: Sequence[str]) -> Answer:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"], enable_fallback=0)

    def answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probability, ids = session.run(outputs, {INPUTS[0]: images})
        return probability, ids

    return answer


def _describe(path: Path, metadata: ModelMetadata) -> None:
    """Put the metadata into the file."""
    model = onnx.load(path)
    others = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, others | metadata.to_strings(ONNX_PREFIX))
    onnx.save(model, path)
    onnx.checker.check_model(path)  # other runtimes are stricter than ONNX Runtime


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep an exporter's notes off the terminal: deprecations of its own, and whole graphs when it fails."""
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)
