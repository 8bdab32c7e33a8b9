"""A trained segmentation network as one ONNX file: photos in, masks out, checked against PyTorch.

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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simclrseg.errors import GateError
from simclrseg.files import replacing
from simclrseg.images import resize_image
from simclrseg.metadata import ONNX_PREFIX, ModelMetadata

STRIDE = 32  # encoders halve the picture five times
MINIMUM_AGREEMENT = 0.999  # share of the pixels
MAXIMUM_DIFFERENCE = 1e-2  # in probability; the rounding of a network after two steps of training reached 0.002


@dataclass(frozen=True)
class Agreement:
    """How far an exported file and the network agree.

    Attributes:
        mask: share of the pixels with the same mask value.
        probability: greatest difference of two probabilities.
        pictures: number of pictures compared.
    """

    mask: float
    probability: float
    pictures: int

    def __str__(self) -> str:
        return (
            f"masks agree on {self.mask:.3%} of the pixels of {self.pictures} pictures, "
            f"probabilities to {self.probability:.1e}"
        )


class Deploy(nn.Module):
    """A network with its pre- and postprocessing: what the exported graph computes.

    Args:
        model: normalised (N, bands, H, W), H and W multiples of 32 -> logits (N, 1 or C, H, W).
        metadata: gives mean, std and threshold (None: several classes).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, metadata: ModelMetadata) -> None:
        super().__init__()
        self.model = model
        self.threshold = metadata.threshold
        self.register_buffer("mean", metadata.full_scale * torch.tensor(metadata.mean).view(1, -1, 1, 1))
        self.register_buffer("std", metadata.full_scale * torch.tensor(metadata.std).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, bands) uint8 or uint16 -> probability and mask."""
        height, width = image.shape[1:3]
        x = (image.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
        # written so, and not as -height % 32, because torch.export can bound this
        below = (height + STRIDE - 1) // STRIDE * STRIDE - height
        right = (width + STRIDE - 1) // STRIDE * STRIDE - width
        logits = self.model(F.pad(x, (0, right, 0, below)))[:, :, :height, :width]
        if self.threshold is not None:
            probability = torch.sigmoid(logits[:, 0])
            return probability, (probability > self.threshold).to(torch.uint8)
        return torch.softmax(logits, dim=1), logits.argmax(dim=1).to(torch.uint8)


def export_onnx(
    model: nn.Module,
    path: Path,
    metadata: ModelMetadata,
    *,
    photos: Sequence[np.ndarray] = (),
    opset: int = 18,
) -> Agreement:
    """Write the network as one ONNX file that holds its preprocessing and metadata, if it passes ``verify_onnx``.

    The graph computes in float32 whatever device and precision the network was trained with; the network itself is
    not changed.

    Args:
        model: (N, bands, H, W) -> logits (N, 1, H, W) where the metadata has a threshold, else (N, C, H, W).
        photos: real pictures (H, W, bands) uint8 to check the file on, besides generated ones.
        opset: version of the ONNX operators.

    Raises:
        GateError: if the network cannot be exported, or the file and the network disagree; there is no file then.
        OutputError: if the file cannot be written.
    """
    network = _portable(model, metadata)
    pixel = torch.uint8 if metadata.full_scale <= 255 else torch.uint16
    example = torch.zeros(2, 2 * STRIDE + 1, 3 * STRIDE + 1, metadata.in_channels, dtype=pixel)
    sizes = {axis: torch.export.Dim(name) for axis, name in enumerate(("batch", "height", "width"))}
    try:
        with _quietly():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=["image"],
                output_names=["probability", "mask"],
                dynamic_shapes={"image": sizes},
                opset_version=opset,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise GateError(f"PyTorch cannot export a network with encoder {metadata.encoder}: {reason}") from error
    assert program is not None  # it is one whenever dynamo is True
    program.model.metadata_props.update(metadata.to_strings(ONNX_PREFIX))
    with replacing(path) as temporary:
        program.save(temporary, external_data=False)
        return _verify(temporary, network, metadata, photos)


def verify_onnx(path: Path, model: nn.Module, metadata: ModelMetadata, photos: Sequence[np.ndarray] = ()) -> Agreement:
    """Compare an exported file with the network on generated pictures of three sizes, one and three at a time, and on
    photos.

    Args:
        photos: (H, W, bands) uint8; they are brought to the training size, as in prediction.

    Raises:
        GateError: if masks agree on less than 99.9 % of the pixels, or a probability differs by more than 0.01.
    """
    return _verify(path, _portable(model, metadata), metadata, photos)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's notes off the terminal: deprecations of its own, and whole graphs when it fails."""
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


def _portable(model: nn.Module, metadata: ModelMetadata) -> Deploy:
    """A float32 copy on the CPU, in evaluation mode; the original may go on training."""
    return Deploy(copy.deepcopy(model), metadata).cpu().float().eval()


def _verify(path: Path, network: Deploy, metadata: ModelMetadata, photos: Sequence[np.ndarray]) -> Agreement:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    same = pixels = pictures = 0
    difference = 0.0
    for batch in _batches(metadata, photos):
        with torch.inference_mode():
            expected = [output.numpy() for output in network(torch.from_numpy(batch))]
        probability, mask = session.run(["probability", "mask"], {"image": batch})
        if probability.shape != expected[0].shape or mask.shape != expected[1].shape:
            raise GateError(
                f"the exported model does not say the same as the network: for pictures {batch.shape} it gives "
                f"{probability.shape} and {mask.shape}, not {expected[0].shape} and {expected[1].shape}"
            )
        worst = float(np.abs(probability - expected[0]).max())
        difference = max(difference, worst) if np.isfinite(worst) else float("inf")
        same += int((mask == expected[1]).sum())
        pixels += mask.size
        pictures += len(batch)
    agreement = Agreement(mask=same / pixels, probability=difference, pictures=pictures)
    if agreement.mask < MINIMUM_AGREEMENT or agreement.probability > MAXIMUM_DIFFERENCE:
        raise GateError(
            f"the exported model does not say the same as the network: {agreement} (at least {MINIMUM_AGREEMENT:.1%} "
            f"and at most {MAXIMUM_DIFFERENCE:g} are asked)"
        )
    return agreement


def _batches(metadata: ModelMetadata, photos: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Generated pictures of sizes that need no padding, some and much, then the photos: (N, H, W, bands)."""
    generator = np.random.default_rng(0)
    side, full = metadata.image_size, metadata.full_scale
    pixel = np.uint8 if full <= 255 else np.uint16
    for height, width in ((side, side), (2 * STRIDE + 5, 3 * STRIDE + 7), (5 * STRIDE, STRIDE + 1)):
        for count in (1, 3):
            # large spots of colour rather than noise, which all networks see as the same grey
            coarse = generator.integers(0, full + 1, (count, height // 8 + 1, width // 8 + 1, metadata.in_channels))
            yield coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].astype(pixel)
    for photo in photos:
        yield np.ascontiguousarray(resize_image(photo, (side, side)))[None]
