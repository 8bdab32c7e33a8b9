"""A trained network as one ONNX file, checked against PyTorch; graphs.py says what it takes and gives."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
import torch
from torch import nn

from simclrseg.errors import GateError
from simclrseg.exporters import PRECISIONS
from simclrseg.exporters.graphs import INPUT, STRIDE, Deployed, pixel_type, portable
from simclrseg.exporters.tracing import traceable
from simclrseg.exporters.verification import (
    Agreement,
    Answer,
    answer_of,
    check_exact,
    check_rounded,
    compare,
    in_batches,
)
from simclrseg.inference.session import readable
from simclrseg.metadata import ONNX_PREFIX, ModelMetadata
from simclrseg.system.checksum import KEY, seal_onnx
from simclrseg.system.files import held_back, replacing
from simclrseg.text import in_one_line

log = logging.getLogger(__name__)

LARGEST = 2**31  # bytes; protobuf, which ONNX files are written with, has no larger messages
NEWEST = 20  # opset of PyTorch's exporter; onnx converts to newer ones


def export_onnx(
    model: nn.Module,
    path: Path,
    metadata: ModelMetadata,
    *,
    precision: str = "fp32",
    images: Sequence[np.ndarray] = (),
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
        precision: what the file computes with, of PRECISIONS; images go in as they are for all of them.
        images: real pictures (H, W, bands) to check the file on, besides generated ones; brought to its size.
        truths: their masks (H, W), or none.
        calibration: pictures that are not among ``images``, for a precision that needs them.
        tolerance: by how much the IoU may change where the precision is not that of the network.
        opset: version of the ONNX operators.
        fixed_shape: the only (N, H, W) that the file takes; any by default.

    Raises:
        GateError: if the network cannot be exported, or the file and the network disagree; there is no file then.
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
            target.convert(temporary, [batch for batch, _ in in_batches(calibration, shapes[0])])
        file = _answer_of_file(temporary, network.OUTPUTS)
        agreement = compare(answer_of(network), file, metadata, shapes, images, truths)
        if target.exact:
            check_exact(agreement)
        else:
            check_rounded(agreement, tolerance)
        _describe(temporary, metadata.model_copy(update={"precision": precision, "checks": agreement.facts()}))
    return agreement


def shapes_to_check(
    metadata: ModelMetadata, fixed_shape: tuple[int, int, int] | None = None
) -> list[tuple[int, int, int]]:
    """(N, H, W) of generated pictures: sizes that need no padding, some and much, one and three at a time."""
    sizes = ((metadata.image_size,) * 2, (2 * STRIDE + 5, 3 * STRIDE + 7), (5 * STRIDE, STRIDE + 1))
    return [fixed_shape] if fixed_shape else [(count, *size) for size in sizes for count in (1, 3)]


def _traced(
    network: Deployed, metadata: ModelMetadata, *, opset: int, fixed_shape: tuple[int, int, int] | None
) -> onnx.ModelProto:
    """The network as a graph.

    PyTorch's older exporter runs the network once and writes down what it computes: a second, where the newer takes ten
    to sixty for its symbolic sizes. Where that run made a number of a size, the file fails its check at other sizes.
    """
    if sum(tensor.nbytes for tensor in network.state_dict().values()) >= LARGEST:
        raise GateError(
            "the network has more than 2 GB of weights, and an ONNX file holds no more", "use --format torch"
        )
    shape = (*(fixed_shape or (2, 2 * STRIDE + 1, 3 * STRIDE + 1)), metadata.in_channels)
    sizes: list[str | int] = [*(fixed_shape or ("batch", "height", "width"))]
    outputs = {output["name"]: output["shape"] for output in network.described(metadata, sizes)}
    written = io.BytesIO()
    try:
        with quietly(), held_back(1), traceable(network, metadata.image_size) as twin:
            torch.onnx.export(
                twin,
                (torch.zeros(shape, dtype=torch.uint8),),
                written,  # type: ignore[arg-type]  # torch's stubs know of files only
                dynamo=False,
                input_names=[INPUT],
                output_names=[*outputs],
                dynamic_axes={
                    name: {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}
                    for name, shape in {INPUT: sizes, **outputs}.items()
                },
                opset_version=min(opset, NEWEST),
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        reason = in_one_line(error, 200)
        raise GateError(f"PyTorch cannot export a network with encoder {metadata.encoder}: {reason}") from error
    model = onnx.load_from_string(written.getvalue())
    if opset > NEWEST:
        model = onnx.version_converter.convert_version(model, opset)
    if pixel_type(metadata) is np.uint16:  # which the exporter does not know; what takes pixels takes any integers
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT16
    return model


def _answer_of_file(path: Path, outputs: Sequence[str]) -> Answer:
    session = onnxruntime.InferenceSession(readable(path), providers=["CPUExecutionProvider"], enable_fallback=0)
    return lambda images: session.run(outputs, {INPUT: images})


def _describe(path: Path, metadata: ModelMetadata) -> None:
    """Put the metadata into the file."""
    model = onnx.load(path)
    others = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, others | metadata.to_strings(ONNX_PREFIX))
    onnx.save(model, path)
    seal_onnx(path, ONNX_PREFIX + KEY, model.ir_version)
    onnx.checker.check_model(readable(path))  # other runtimes are stricter than ONNX Runtime


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep an exporter's notes off the terminal: deprecations of its own, and whole graphs when it fails."""
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(action="ignore"),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)
