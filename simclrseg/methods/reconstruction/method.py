"""Reconstruction, as ``pretrain`` runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from simclrseg.charts import plots
from simclrseg.data.cutout import Cutout
from simclrseg.data.datasets.base import colour_bands
from simclrseg.data.loader import InTurn, Loader, some_rows
from simclrseg.data.randomness import permutation
from simclrseg.data.samples import CutViews
from simclrseg.methods.base import Method, Views
from simclrseg.methods.reconstruction.knobs import Knobs
from simclrseg.methods.reconstruction.task import Reconstruction
from simclrseg.models import SEGMENTERS
from simclrseg.models.normalize import Normalize
from simclrseg.training.evaluators import knn_batches

RESULTS = "reconstructions.png"
EXAMPLES = 8
MOST_HELD_OUT = 500  # images: enough for a figure, and cheap beside an epoch
VALIDATION_BATCH = 16


class ReconstructionMethod(Method[Knobs]):
    """Images with rectangles cut out are painted back by a U-Net (Pathak et al. 2016)."""

    ENCODER = "encoder."
    DECODER = "unet"

    def make_task(self, backbone: nn.Module, encoder: str, normalize: Normalize) -> Reconstruction:
        network = SEGMENTERS[self.DECODER](backbone, encoder, len(normalize.mean))
        return Reconstruction(network, normalize, cut_only=self.knobs.loss_pixels == "cut")

    def make_samples(self, views: Views, indices: Sequence[int]) -> CutViews:
        return CutViews(
            views.dataset,
            indices,
            image_size=views.image_size,
            strengths=views.strengths,
            cutout=Cutout(share=self.knobs.cut_share, longest=self.knobs.cut_side),
            seed=views.seed,
            strict=views.strict,
        )

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
        labelled = knn_batches(
            views.dataset, trained_on, image_size=views.image_size, strict=views.strict, threads=views.threads
        )
        if labelled is not None:
            loaders.append(labelled)
        return InTurn(*loaders) if loaders else None

    def outlook(self, batch_size: int) -> str:
        return "mean_fill is the loss of painting nothing but the mean"

    def draw_results(
        self,
        task: Reconstruction,
        views: Views,
        indices: Sequence[int],
        folder: Path,
        *,
        batch_size: int,
    ) -> None:
        """``reconstructions.png``: an image a row, cut, painted and as it was."""
        rows = some_rows(self.make_samples(views.plain, indices), EXAMPLES)
        device = next(task.model.parameters()).device
        task.model.eval()
        painted = []
        for start in range(0, len(rows["image"]), batch_size):
            part = slice(start, start + batch_size)
            images, cut = (torch.from_numpy(rows[name][part]).to(device) for name in ("image", "cut"))
            with torch.inference_mode():
                painted.append([pixels.cpu().numpy() for pixels in task.paint(images, cut)])
        columns = [np.concatenate(pixels) for pixels in zip(*painted, strict=True)]
        pictures = np.stack([*columns, rows["image"]], axis=1)  # (n, 3, S, S, bands), to be shown on one scale
        tiles = plots.viewable(pictures, colour_bands(views.dataset.bands))
        plots.write_grid(list(tiles), folder / RESULTS, headings=("cut", "painted", "original"))

    def card_rows(self, batch_size: int) -> dict[str, str]:
        pixels = "those alone" if self.knobs.loss_pixels == "cut" else "all pixels"
        return {
            "batch": f"{batch_size} photos",
            "cut": f"{self.knobs.cut_share:.0%} of the pixels, in rectangles of 2 to {self.knobs.cut_side} px; "
            f"the loss is over {pixels}",
        }
