"""Reconstruction: what was cut out of an image is painted back (context encoders, Pathak et al. 2016)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from simclrseg.charts import plots
from simclrseg.data.cutout import Cutout
from simclrseg.data.loader import InTurn, Loader, some_rows
from simclrseg.data.randomness import permutation
from simclrseg.data.samples import CutViews
from simclrseg.engine.task import Batch, Logs, SeparableTask
from simclrseg.images.bands import colour_bands
from simclrseg.images.colours import viewable
from simclrseg.methods.base import Method, Views
from simclrseg.methods.reconstruction.knobs import Knobs
from simclrseg.metrics import representation
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import pooled_features
from simclrseg.models.normalize import Normalize

EXAMPLES = 8
MOST_HELD_OUT = 500  # images: enough for a figure, and cheap beside an epoch
VALIDATION_BATCH = 16


class Reconstruction(SeparableTask):
    """An encoder with a decoder that paints normalised pixels, trained by their squared error.

    What is cut is filled with the mean of each channel, which is 0 once normalised. So the loss of a network that
    paints the mean everywhere is the variance of the normalised pixels, near 1: ``mean_fill`` in the logs, to compare.

    Args:
        model: (N, C, H, W) -> (N, C, H, W); its ``encoder`` is what remains of pretraining.
        cut_only: the loss is over the values that were cut, else over all; either way a mean over images of each
            image's mean, so that a batch's loss adds up from its micro-batches.
    """

    def __init__(self, model: nn.Module, normalize: Normalize, *, cut_only: bool = False) -> None:
        self.model = model
        self.normalize = normalize
        self.cut_only = cut_only
        self._mean, self._std = (torch.tensor(values).view(-1, 1, 1) for values in (normalize.mean, normalize.std))

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        """``image`` (N, S, S, C) uint8 and ``cut`` (N, S, S, C) bool -> the loss."""
        target, cut, painted = self._paint(batch["image"], batch["cut"])
        return self._loss(painted - target, cut), {"mean_fill": self._loss(target, cut).detach()}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Scores of painting held-out images, and how well features tell labels apart.

        Args:
            batches: with ``cut``, as for training; or without, and with ``label`` (n,) instead.

        Returns:
            ``psnr`` of the cut values in decibels, for pixels in [0, 1], from their squared error over all images;
            ``loss``, as in training; ``knn``, the accuracy of the features under weighted k-NN, where
            every fifth image asks the others. Each where there are batches for it.
        """
        squares = count = loss = images = 0.0
        features, labels = [], []
        for batch in batches:
            if "cut" not in batch:
                encoder = self.model.get_submodule("encoder")
                features.append(pooled_features(encoder, self.normalize(batch["image"])).float())
                labels.append(batch["label"])
                continue
            target, cut, painted = self._paint(batch["image"], batch["cut"])
            errors = (self._pixels(painted) - self._pixels(target)).square()
            squares, count = squares + (errors * cut).sum().item(), count + cut.sum().item()
            loss += self._loss(painted - target, cut).item() * len(cut)
            images += len(cut)
        scores = {}
        if images:
            psnr = -10 * math.log10(max(squares / max(count, 1), 1e-10))  # at most 100 dB
            scores = {"psnr": psnr, "loss": loss / images}
        if features:
            scores["knn"] = representation.knn_among(torch.cat(features), torch.cat(labels))
        return scores

    def paint(self, images: Tensor, cut: Tensor) -> tuple[Tensor, Tensor]:
        """Images as the network gets them, and as it paints them.

        Args:
            images: (N, S, S, C) uint8 or uint16.
            cut: (N, S, S, C) bool.

        Returns:
            Two of (N, S, S, C), in the images' type and scale.
        """
        target, cut, painted = self._paint(images, cut)
        shown = [self._pixels(pixels) for pixels in (target.masked_fill(cut, 0), painted)]
        stored = (pixels.mul(self.normalize.full_scale).round().to(images.dtype) for pixels in shown)
        given, painted = (pixels.permute(0, 2, 3, 1) for pixels in stored)
        return given, painted

    def _paint(self, images: Tensor, cut: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The images normalised, what is cut, and what is painted: (N, C, S, S) each."""
        target, cut = self.normalize(images), cut.permute(0, 3, 1, 2)
        painted: Tensor = self.model(target.masked_fill(cut, 0))
        return target, cut, painted.float()

    def _loss(self, errors: Tensor, cut: Tensor) -> Tensor:
        squares = errors.square()
        if not self.cut_only:
            return squares.mean()
        return ((squares * cut).sum((1, 2, 3)) / cut.sum((1, 2, 3)).clamp_min(1)).mean()

    def _pixels(self, normalised: Tensor) -> Tensor:
        """In [0, 1]."""
        return (normalised * self._std.to(normalised.device) + self._mean.to(normalised.device)).clamp(0, 1)


class ReconstructionMethod(Method[Knobs]):
    """Reconstruction by a U-Net, as ``pretrain`` runs it."""

    ENCODER = "encoder."
    DECODER = "unet"
    SHOWN = "a column is one photo with parts cut out, and whole, as it learned to paint it"

    def make_task(self, backbone: nn.Module, encoder: str, normalize: Normalize) -> Reconstruction:
        network = SEGMENTERS[self.DECODER](backbone, encoder, len(normalize.mean))
        return Reconstruction(network, normalize, cut_only=self.knobs.loss_pixels == "cut")

    def make_samples(self, views: Views, indices: Sequence[int]) -> CutViews:
        cutout = Cutout(share=self.knobs.cut_share, longest=self.knobs.cut_side)
        return views.samples(CutViews, indices, cutout=cutout)

    def first_views(self, rows: dict[str, np.ndarray]) -> np.ndarray:
        """Cut, here to black, and whole."""
        return np.stack([np.where(rows["cut"], np.uint8(0), rows["image"]), rows["image"]], axis=1)

    def held_out(self, count: int) -> np.ndarray:
        """A share of them, the same for every seed."""
        return permutation(0, 0, count)[: min(MOST_HELD_OUT, int(count * self.knobs.held_out))]

    def make_validation(self, views: Views, trained_on: Sequence[int], held_out: Sequence[int]) -> InTurn | None:
        """Held-out images as they are, cut in the same way each time; then those of k-NN, where there are labels."""
        loaders = []
        if len(held_out):
            plain = self.make_samples(views.plain, held_out)
            loaders.append(
                Loader(plain, batch_size=VALIDATION_BATCH, shuffle=False, drop_last=False, threads=views.threads)
            )
        if (labelled := views.labelled(trained_on)) is not None:
            loaders.append(labelled)
        return InTurn(*loaders) if loaders else None

    def outlook(self, batch_size: int) -> str:
        return "mean_fill is the loss of painting nothing but the mean"

    @torch.inference_mode()
    def draw_results(
        self, task: Reconstruction, views: Views, indices: Sequence[int], folder: Path, *, batch_size: int
    ) -> None:
        """``reconstructions.png``: an image a row, cut, painted and as it was."""
        rows = some_rows(self.make_samples(views.plain, indices), EXAMPLES)
        device = next(task.model.parameters()).device
        task.model.eval()
        parts = (torch.from_numpy(rows[name]).to(device).split(batch_size) for name in ("image", "cut"))
        painted = [[pixels.cpu().numpy() for pixels in task.paint(*part)] for part in zip(*parts, strict=True)]
        columns = [np.concatenate(pixels) for pixels in zip(*painted, strict=True)]
        pictures = np.stack([*columns, rows["image"]], axis=1)  # (n, 3, S, S, bands), to be shown on one scale
        tiles = viewable(pictures, colour_bands(views.dataset.bands))
        plots.write_grid(list(tiles), folder / "reconstructions.png", headings=("cut", "painted", "original"))

    def card_rows(self, batch_size: int) -> dict[str, str]:
        pixels = "those alone" if self.knobs.loss_pixels == "cut" else "all pixels"
        return {
            "batch": f"{batch_size} photos",
            "cut": f"{self.knobs.cut_share:.0%} of the pixels, in rectangles of 2 to {self.knobs.cut_side} px; "
            f"the loss is over {pixels}",
        }
