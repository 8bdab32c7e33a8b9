"""From an image to its files: read, compute, compose, write. Never imports torch."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from simclrseg.errors import DeviceError, ImageError, OutOfMemory
from simclrseg.images.decode import Picture, read_bands, read_picture, turn_back
from simclrseg.images.depth import fits, in_words, likely_range
from simclrseg.images.limits import MAX_PIXELS
from simclrseg.images.resizing import resize_image
from simclrseg.inference import OUTPUTS
from simclrseg.inference.files import InputImage, Job
from simclrseg.inference.masks import Predict, mirrored, predict_tiles, strips, to_mask
from simclrseg.inference.outputs import Strip, Subject, likeliest
from simclrseg.inference.session import CPU, Model
from simclrseg.system.files import replacing, writing

log = logging.getLogger(__name__)

TILE_BATCH = 8  # tiles computed together on a GPU
SMALLEST_TILE = 64


@dataclass(frozen=True)
class Predictor:
    """Everything but the images.

    Attributes:
        tile: side of tiles in pixels; None for whole pictures at the training size.
        overlap: share of a tile that its neighbour covers too.
        flips: also predict the mirror image, and take the mean.
        threshold: above which a pixel is foreground; None where the likeliest class is taken.
        keep_orientation: write files as the image's file is stored, not upright.
    """

    model: Model
    tile: int | None = None
    overlap: float = 0.5
    flips: bool = False
    threshold: float | None = None
    max_pixels: int = MAX_PIXELS
    keep_orientation: bool = False
    _said: set[str] = field(default_factory=set, repr=False)

    def read(self, image: InputImage) -> Picture:
        """Read an image, or raise ImageError, naming it, if it cannot be read or has not the model's bands."""
        if image.source is not None and image.source.is_fifo():
            remedy = "pass - to have a photo read from stdin"
            raise ImageError(f"{image}: it is a pipe, not a file", remedy, path=image.source)
        source = image.source if image.source is not None else sys.stdin.buffer.read()
        metadata = self.model.metadata
        if metadata.takes_photos:
            picture = read_picture(source, max_pixels=self.max_pixels, reach=metadata.reach or likely_range)
            if picture.several:
                log.info(f"{image}: several frames or pages, of which the first is taken")
            if picture.hidden and "hidden" not in self._said:
                self._said.add("hidden")
                log.info(f"{image}: its alpha channel hides all of it, so that its colours are taken as they are")
            self._tell_range(image, picture)
            return picture
        pixels, needed = read_bands(source, max_pixels=self.max_pixels), self.model.dtype
        if (pixels.shape[2], pixels.dtype) != (metadata.in_channels, needed):
            raise ImageError(
                f"{image}: it has {pixels.shape[2]} bands of {8 * pixels.itemsize} bits, and {self.model.path} takes "
                f"{metadata.in_channels} of {8 * needed.itemsize} ({', '.join(metadata.bands)})",
                path=image.source,
            )
        return Picture(pixels.clip(max=metadata.full_scale))  # training cuts off what is above, too

    def _tell_range(self, image: InputImage, picture: Picture) -> None:
        """Say how values of more than 8 bits were scaled, once of each range; and which photos do not fit in it."""
        if picture.stored is None or picture.reach is None:
            return
        line = in_words(*picture.stored, picture.reach)
        if self.model.metadata.reach is not None and not fits(*picture.stored, picture.reach):
            log.warning(f"{image}: {line} in this model: photos of another range than it was trained on")
        elif str(picture.reach) not in self._said:
            self._said.add(str(picture.reach))
            log.info(f"{image}: {line}" + (", as in training" if self.model.metadata.reach is not None else ""))

    def predict(self, pictures: Sequence[np.ndarray]) -> list[Iterator[tuple[int, np.ndarray]]]:
        """Give the probabilities of each picture (H, W, bands), strip by strip (``strips``)."""
        if not pictures:
            return []
        if self.tile is not None:
            count = self.model.fixed[0] or (1 if self.model.device == "CPU" else TILE_BATCH)
            tiles = partial(predict_tiles, self._probabilities, tile=self.tile, overlap=self.overlap, batch_size=count)
            return [tiles(picture) for picture in pictures]
        small = np.stack([self._squash(picture) for picture in pictures])
        sizes = [picture.shape[:2] for picture in pictures]
        return [strips(found, size) for found, size in zip(self._probabilities(small), sizes, strict=True)]

    def classify(self, pictures: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Give of each picture its ``label``, that label's ``score`` and the ``scores`` of all classes."""
        if not pictures:
            return []
        found = self._probabilities(np.stack([self._squash(picture) for picture in pictures]))
        names = self.model.metadata.classes or [str(label) for label in range(found.shape[1])]
        rows = []
        for scores in found:
            best = int(scores.argmax())
            by_name = {name: round(float(score), 6) for name, score in zip(names, scores, strict=True)}
            rows.append({"label": names[best], "score": by_name[names[best]], "scores": by_name})
        return rows

    def _squash(self, picture: np.ndarray) -> np.ndarray:
        """Bring a picture to the size of the training pictures, as training does, or the only one the model takes."""
        side, (_, height, width) = self.model.metadata.image_size, self.model.fixed
        return resize_image(picture, (height or side, width or side))

    @property
    def _probabilities(self) -> Predict:
        predict: Predict = self._within_memory
        return mirrored(predict) if self.flips else predict

    def _within_memory(self, batch: np.ndarray) -> np.ndarray:
        """Probabilities of a batch; where it does not fit in memory one by one, and then in tiles."""
        try:
            return self.model.run(np.ascontiguousarray(batch)).astype(np.float32, copy=False)
        except MemoryError as error:
            if len(batch) > 1:
                return np.concatenate([self._within_memory(image[None]) for image in batch])
            height, width = batch.shape[1:3]
            side = max(height, width) // 2 // 32 * 32
            if side < SMALLEST_TILE or self.model.fixed[1] is not None:
                size = f"{width} x {height} pixels"
                if self.model.provider == CPU:
                    remedy = "free some memory, or pass fewer --workers"
                    raise OutOfMemory(f"out of memory even for {size}", remedy) from error
                place = f"the memory of the {self.model.device}"
                reason = f"{self.model.path} does not fit in {place} even for {size} ({error})"
                raise DeviceError(reason, "use --device cpu") from error
            line = f"{width} x {height} pixels at once do not fit in memory: tiles of {side} are taken instead"
            if line not in self._said:
                self._said.add(line)
                log.warning(line)
            tiles = predict_tiles(self._within_memory, batch[0], side, self.overlap)
            return np.concatenate([rows for _, rows in tiles], axis=-2)[None]

    def write(
        self, job: Job, picture: Picture, probabilities: Iterator[tuple[int, np.ndarray]]
    ) -> tuple[float, dict[str, bytes]]:
        """Write all files of an image; of one that cannot be written there is nothing.

        Returns:
            How sure the model is: the mean over all pixels of the likeliest class's probability. And the image's part
            of each file that is for all images.
        """
        image = picture.pixels
        if self.keep_orientation and picture.orientation != 1:  # whole, because rows become columns
            image = turn_back(image, picture.orientation)
            whole = np.concatenate([rows for _, rows in probabilities], axis=-2)
            maps = [turn_back(one, picture.orientation) for one in whole.reshape(-1, *whole.shape[-2:])]
            probabilities = iter([(0, np.stack(maps) if whole.ndim == 3 else maps[0])])
        subject = Subject(
            job.image.relative.as_posix(),
            image.shape[:2],
            self.model.metadata,
            job.image.source,
            threshold=self.threshold,
            scale=1.0 if self.tile else max(image.shape[:2]) / self.model.metadata.image_size,
        )
        sure = 0.0
        parts = {kind: io.BytesIO() for kind in job.targets if OUTPUTS[kind].joint}
        with contextlib.ExitStack() as stack:
            outputs = []
            for kind, target in job.targets.items():
                file: BinaryIO | None = parts.get(kind)
                if file is None:
                    path = stack.enter_context(to_stdout() if target is None else replacing(target))
                    file = stack.enter_context(path.open("wb"))
                outputs.append(OUTPUTS[kind](file, replace(subject, target=target)))
            for top, probability in probabilities:
                mask = to_mask(probability, self.threshold)
                sure += float(likeliest(probability).sum(dtype=np.float64))
                strip = Strip(top, image[top : top + len(mask)], probability, mask)
                for output in outputs:
                    output.add(strip)
            for output in outputs:
                output.end()
        height, width = subject.size
        return sure / (height * width), {kind: part.getvalue() for kind, part in parts.items()}


@contextlib.contextmanager
def to_stdout() -> Iterator[Path]:
    """A temporary path whose contents go to stdout when the block ends well."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "output"
        yield path
        with path.open("rb") as file, writing(Path("stdout")):
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
