"""From an image to its files: read, compute, compose, write. Never imports torch."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from simclrseg.errors import DeviceError, ImageError, OutOfMemory
from simclrseg.images.bands import REFLECTANCE, are_named, bands_beside, colour_bands, places_of
from simclrseg.images.colours import stretch, viewable
from simclrseg.images.decode import Picture, read_picture, read_scene, stored_bands
from simclrseg.images.depth import Deep, fits, in_words, likely_range
from simclrseg.images.framing import Framing
from simclrseg.images.geography import Geography
from simclrseg.images.headers import Refused
from simclrseg.images.limits import MAX_PIXELS
from simclrseg.images.opening import turn_back
from simclrseg.inference import OUTPUTS
from simclrseg.inference.inputs import InputImage
from simclrseg.inference.jobs import Job
from simclrseg.inference.outputs import Strip, Subject, likeliest
from simclrseg.inference.session import CPU, Model
from simclrseg.inference.tiling import OVERLAP, Predict, mirrored, predict_tiles, strips, to_mask
from simclrseg.system.files import replacing, writing

log = logging.getLogger(__name__)

TILE_BATCH = 8  # tiles computed together on a GPU
SMALLEST_TILE = 64


@dataclass(frozen=True)
class Predictor:
    """Everything but the images.

    Attributes:
        tile: side of tiles in pixels; None for what the model was trained on: tiles of its size, or whole pictures.
        overlap: share of a tile that its neighbour covers too.
        flips: also predict the mirror image, and take the mean.
        threshold: above which a pixel is foreground; None where the likeliest class is taken.
        keep_orientation: write files as the image's file is stored, not upright.
        bands: names of the bands of TIFFs, in their order; else those of their tags or of a file beside them count.
    """

    model: Model
    tile: int | None = None
    overlap: float = OVERLAP
    flips: bool = False
    threshold: float | None = None
    max_pixels: int = MAX_PIXELS
    keep_orientation: bool = False
    bands: tuple[str, ...] = ()
    _said: set[str] = field(default_factory=set, repr=False)

    def read(self, image: InputImage, content: bytes | None = None) -> Picture:
        """Read an image, or raise ImageError, naming it, if it cannot be read or has not the model's bands.

        Args:
            content: of its file, where that has been read.
        """
        if image.source is not None and image.source.is_fifo():
            remedy = "pass - to have a photo read from stdin"
            raise ImageError(f"{image}: it is a pipe, not a file", remedy, path=image.source)
        source = content if content is not None else image.source or sys.stdin.buffer.read()
        metadata = self.model.metadata
        if metadata.takes_photos and stored_bands(source) is None:
            picture = read_picture(source, max_pixels=self.max_pixels, reach=metadata.reach or likely_range)
            if picture.several:
                log.info(f"{image}: several frames or pages, of which the first is taken")
            if picture.hidden and self._is_new("hidden"):
                log.info(f"{image}: its alpha channel hides all of it, so that its colours are taken as they are")
            self._tell_range(image, picture)
            return picture
        picture = self._scene(
            image, read_scene(source, max_pixels=self.max_pixels, reach=metadata.reach, wanted=metadata.bands)
        )
        self._tell_range(image, picture, 255 if metadata.takes_photos else REFLECTANCE)
        return picture

    def _scene(self, image: InputImage, scene: Picture) -> Picture:
        """Of all bands those that the model takes, by name, in its order; without names all, if they are as many."""
        metadata, needed, pixels = self.model.metadata, self.model.dtype, scene.pixels
        names = self.bands or (bands_beside(image.source.parent) if image.source else ()) or scene.bands
        count = pixels.shape[2]
        if len(names) != count:
            reason = f"{image}: it has {count} bands, and {len(names)} names are given ({', '.join(names)})"
            remedy = "send one with these bands" if image.sent else "name them all in their order"
            raise ImageError(reason, remedy, path=image.source)
        places = places_of(metadata.bands, names)
        if places is None and count == metadata.in_channels and not metadata.takes_photos:
            places = [*range(count)]
            if are_named(names) and are_named(metadata.bands) and self._is_new("order"):
                ours = f"{self.model.path} takes {', '.join(metadata.bands)}"
                log.warning(f"{image}: its bands are {', '.join(names)}, and {ours}: they are taken in their order")
        fits_bits = pixels.dtype == needed or (metadata.takes_photos and pixels.dtype == np.uint16)
        if scene.reach is not None and not metadata.takes_photos:
            fits_bits = fits_bits and metadata.full_scale == REFLECTANCE
        if places is None or not fits_bits:
            kind = "floating-point numbers" if scene.reach else f"{8 * pixels.itemsize} bits"
            called = f" ({', '.join(names)})" if are_named(names) else ""
            model = "the model" if image.sent else self.model.path
            takes = f"{model} takes {metadata.in_channels} of {8 * needed.itemsize}"
            up_to = f" up to {metadata.full_scale:,}" if scene.reach else ""
            bands = f"{count} band{'s' if count > 1 else ''}"
            if places is not None:  # whatever the bands are called, the bits do not fit
                remedy = f"give a picture of {8 * needed.itemsize} bits"
            elif are_named(names):
                lacking = [band for band in metadata.bands if band not in names]
                remedy = f"give a picture that has {', '.join(lacking)} too"
            elif count < metadata.in_channels:
                remedy = "give a picture that has all of these"
            elif image.sent:
                remedy = "name its bands in its tags, or have the page started with --bands"
            else:
                remedy = "name its bands with --bands"
            raise ImageError(
                f"{image}: it has {bands} of {kind}{called}, and {takes}{up_to} ({', '.join(metadata.bands)})",
                remedy,
                path=image.source,
            )
        if places != [*range(count)]:
            pixels = np.ascontiguousarray(pixels[:, :, places])
            line = f"bands by name: {', '.join(metadata.bands)} of {', '.join(names)}"
            if self._is_new(line):
                log.info(line)
        if pixels.dtype == needed:  # training cuts off what is above, too
            return replace(scene, pixels=pixels.clip(max=metadata.full_scale), bands=metadata.bands)
        deep = Deep(pixels, None, blank=scene.blank)
        try:
            reach = (0.0, float(REFLECTANCE)) if scene.reach else metadata.reach or likely_range(deep)
        except Refused as error:
            raise ImageError(f"{image}: {error.reason}", error.remedy, path=image.source) from error
        eight = np.asarray(deep.to_8_bits(0, len(pixels), reach=reach, profile=None))
        stored, told = (scene.stored, scene.reach) if scene.reach else (deep.spread, reach)
        return replace(scene, pixels=eight, stored=stored, reach=told, bands=metadata.bands)

    def _is_new(self, matter: str) -> bool:
        """Tell whether nothing has been said of it yet, as from now on it has."""
        if matter in self._said:
            return False
        self._said.add(matter)
        return True

    def _tell_range(self, image: InputImage, picture: Picture, top: int = 255) -> None:
        """Say how values of more than 8 bits were scaled, once of each range; and which photos do not fit in it."""
        if picture.stored is None or picture.reach is None:
            return
        line = in_words(*picture.stored, picture.reach, top)
        if self.model.metadata.reach is not None and not fits(*picture.stored, picture.reach):
            log.warning(f"{image}: {line} in this model: photos of another range than it was trained on")
        elif self._is_new(str(picture.reach)):
            log.info(f"{image}: {line}" + (", as in training" if self.model.metadata.reach is not None else ""))

    def predict(self, pictures: Sequence[np.ndarray]) -> list[Iterator[tuple[int, np.ndarray]]]:
        """Give the probabilities of each picture (H, W, bands), strip by strip (``strips``)."""
        if not pictures:
            return []
        framing = self._framing
        if self.tile_side is not None:
            count = self.model.fixed[0] or (1 if self.model.device == "CPU" else TILE_BATCH)
            tiles = partial(
                predict_tiles,
                self._probabilities,
                tile=self.tile_side,
                overlap=self.overlap,
                batch_size=count,
                fill=framing.fill if self.tile is None else None,
            )
            return [tiles(picture) for picture in pictures]
        small = np.stack([framing.image(picture) for picture in pictures])
        shapes = [picture.shape[:2] for picture in pictures]
        found = zip(self._probabilities(small), shapes, strict=True)
        return [strips(framing.cut(one, shape), shape) for one, shape in found]

    def classify(self, pictures: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Give of each picture its ``label``, that label's ``score`` and the ``scores`` of all classes."""
        if not pictures:
            return []
        found = self._probabilities(np.stack([self._framing.image(picture) for picture in pictures]))
        names = self.model.metadata.classes or [str(label) for label in range(found.shape[1])]
        rows = []
        for scores in found:
            best = int(scores.argmax())
            by_name = {name: round(float(score), 6) for name, score in zip(names, scores, strict=True)}
            rows.append({"label": names[best], "score": by_name[names[best]], "scores": by_name})
        return rows

    @property
    def tile_side(self) -> int | None:
        """Side of the tiles in pixels, asked for or as in training; None where pictures are seen whole."""
        return self.model.metadata.image_size if self.tile is None and self._framing.resize == "tile" else self.tile

    @property
    def overlaps_nothing(self) -> bool:
        """Tell whether an overlap is asked for where there are no tiles, so that it would do nothing."""
        return self.overlap != OVERLAP and self.tile_side is None

    @property
    def other_shape(self) -> tuple[int, int] | None:
        """(height, width) of the only pictures that the model takes, if its tiles, or the photos it saw, are others."""
        side = self.tile_side or self.model.metadata.image_size
        _, height, width = self.model.fixed
        shape = (height or side, width or side)
        return None if shape == (side, side) else shape

    @property
    def _framing(self) -> Framing:
        """How pictures become those that the model was trained on, or the only ones that it takes."""
        side, (_, height, width) = self.model.metadata.image_size, self.model.fixed
        return Framing.of(self.model.metadata, (height or side, width or side))

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
            if side < SMALLEST_TILE or self.model.fixed[1] is not None or self.model.classifies:
                size = f"{width} x {height} pixels"
                if self.model.provider == CPU:
                    remedy = "free some memory, or pass fewer --workers"
                    raise OutOfMemory(f"out of memory even for {size}", remedy) from error
                place = f"the memory of the {self.model.device}"
                reason = f"{self.model.path} does not fit in {place} even for {size} ({error})"
                raise DeviceError(reason, "use --device cpu") from error
            line = f"{width} x {height} pixels at once do not fit in memory: tiles of {side} are taken instead"
            if self._is_new(line):
                log.warning(line)
            tiles = predict_tiles(self._within_memory, batch[0], side, self.overlap)
            return np.concatenate([rows for _, rows in tiles], axis=-2)[None]

    def write(
        self,
        job: Job,
        picture: Picture,
        probabilities: Iterator[tuple[int, np.ndarray]],
        files: Mapping[str, BinaryIO] = MappingProxyType({}),
    ) -> tuple[float, dict[str, bytes]]:
        """Write all files of an image; of one that cannot be written there is nothing.

        Args:
            files: open ones to write to in place of a job's targets, by output.

        Returns:
            How sure the model is: the mean over all pixels of the likeliest class's probability. And the image's part
            of each file that is for all images.
        """
        image, blank, geography = picture.pixels, picture.blank, self._geography(job, picture)
        opacity = picture.opacity
        if self.keep_orientation and picture.orientation != 1:  # whole, because rows become columns
            image = turn_back(image, picture.orientation)
            blank, opacity = (None if one is None else turn_back(one, picture.orientation) for one in (blank, opacity))
            whole = np.concatenate([rows for _, rows in probabilities], axis=-2)
            maps = [turn_back(one, picture.orientation) for one in whole.reshape(-1, *whole.shape[-2:])]
            probabilities = iter([(0, np.stack(maps) if whole.ndim == 3 else maps[0])])
        subject = Subject(
            job.image.relative.as_posix(),
            image.shape[:2],
            self.model.metadata,
            job.image.source,
            geography=geography,
            holed=blank is not None or (geography is not None and geography.nodata is not None),
            threshold=self.threshold,
            scale=1.0 if self.tile_side is not None else max(image.shape[:2]) / self.model.metadata.image_size,
        )
        sure, held = 0.0, blank.size - np.count_nonzero(blank) if blank is not None else image.shape[0] * image.shape[1]
        colours, limits = colour_bands(self.model.metadata.bands), (0.0, 255.0)
        if any(OUTPUTS[kind].in_colour for kind in job.targets):
            limits = stretch(image, colours, blank)
        parts = {kind: io.BytesIO() for kind in job.targets if OUTPUTS[kind].joint}
        with contextlib.ExitStack() as stack:
            outputs = []
            for kind, target in job.targets.items():
                file: BinaryIO | None = files.get(kind, parts.get(kind))
                if file is None:
                    path = stack.enter_context(to_stdout() if target is None else replacing(target))
                    file = stack.enter_context(path.open("wb"))
                outputs.append(OUTPUTS[kind](file, replace(subject, target=target)))
            for top, probability in probabilities:
                mask = to_mask(probability, self.threshold)
                rows = slice(top, top + len(mask))
                empty = None if blank is None else blank[rows]
                certain = likeliest(probability)
                if empty is not None:
                    mask[empty] = 0
                    certain = certain[~empty]
                sure += float(certain.sum(dtype=np.float64))
                seen = None if opacity is None else opacity[rows]
                strip = Strip(top, image[rows], probability, mask, empty, seen)
                for output in outputs:
                    shown = replace(strip, image=viewable(strip.image, colours, limits)) if output.in_colour else strip
                    output.add(shown)
            for output in outputs:
                output.end()
        return sure / max(1, held), {kind: part.getvalue() for kind, part in parts.items()}

    def _geography(self, job: Job, picture: Picture) -> Geography | None:
        """Where the written pixels lie; what is lost of it, or is not there, is said."""
        geography = picture.geography
        if geography is not None and not self.keep_orientation:
            height, width = picture.pixels.shape[:2]
            size = (width, height) if picture.orientation >= 5 else (height, width)
            geography = geography.turned(picture.orientation, size)
        kinds = [kind for kind in job.targets if OUTPUTS[kind].has_place]
        if not kinds:
            if geography is not None and geography.is_placed and self._is_new("place"):
                first = next(iter(job.targets))
                log.info(
                    f"{job.image}: it lies on the earth ({geography.system}), of which --as {first} keeps nothing: "
                    "--as geotiff or --as geojson does"
                )
            return geography
        if geography is not None and geography.doubts:
            log.warning(f"{job.image}: of its georeference is left out: {'; '.join(geography.doubts)}")
        for kind in kinds:
            if (line := OUTPUTS[kind].lacks(geography)) and self._is_new(kind):
                log.info(f"{job.image}: {line}")
        return geography


@contextlib.contextmanager
def to_stdout() -> Iterator[Path]:
    """A temporary path whose contents go to stdout when the block ends well."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "output"
        yield path
        with path.open("rb") as file, writing(Path("stdout")):
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
