"""Photos with their true and predicted masks, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simclrseg.charts import plots
from simclrseg.data.datasets.base import Dataset, colour_bands
from simclrseg.engine.history import EpochRecord, Plan, StepRecord
from simclrseg.errors import ImageError
from simclrseg.images.resizing import resize_image, resize_mask
from simclrseg.inference.masks import Predict, to_mask
from simclrseg.metadata import ModelMetadata

Rows = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def example_rows(predict: Predict, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata) -> Rows:
    """Photo, true and predicted mask of those photos that can be read, all squashed to the training size."""
    side = (metadata.image_size, metadata.image_size)
    pairs = []
    for index in indices:
        try:
            pairs.append((resize_image(dataset.image(index), side), resize_mask(dataset.mask(index), side)))
        except ImageError:  # scoring has named it
            continue
    if not pairs:
        return []
    probabilities = predict(np.stack([photo for photo, _ in pairs]))
    masks = [to_mask(probability, metadata.threshold) for probability in probabilities]
    return [(photo, truth, mask) for (photo, truth), mask in zip(pairs, masks, strict=True)]


class Examples:
    """An observer that draws some photos, with true and predicted masks, every few epochs.

    Args:
        predict: the network as it is at the end of an epoch.
        every: epochs between pictures.
        path: the PNG, overwritten each time.
    """

    def __init__(
        self,
        predict: Predict,
        dataset: Dataset,
        indices: Sequence[int],
        *,
        every: int,
        metadata: ModelMetadata,
        path: Path,
    ) -> None:
        self._predict = predict
        self._dataset = dataset
        self._indices = indices
        self._every = every
        self._metadata = metadata
        self._path = path

    def on_start(self, plan: Plan) -> None:
        pass

    def on_step(self, record: StepRecord) -> None:
        pass

    def on_epoch(self, record: EpochRecord) -> None:
        if record.epoch % self._every == 0:
            draw_examples(self._predict, self._dataset, self._indices, metadata=self._metadata, path=self._path)

    def on_end(self) -> None:
        pass


def draw_examples(
    predict: Predict, dataset: Dataset, indices: Sequence[int], *, metadata: ModelMetadata, path: Path
) -> None:
    """Draw those of some photos that can be read."""
    if rows := example_rows(predict, dataset, indices, metadata):
        colours = colour_bands(dataset.bands)
        shown = [(plots.viewable(photo, colours), truth, mask) for photo, truth, mask in rows]
        plots.examples(shown, dataset.colours, path)
