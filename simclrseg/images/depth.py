"""Pictures of more than 8 bits: which range their values have, and how it becomes 0 to 255; and pixels of no value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from simclrseg.images.bands import REFLECTANCE
from simclrseg.images.headers import Refused
from simclrseg.images.strips import as_array, strips_of, swap_red_and_blue
from simclrseg.images.tiff import Tiff

Range = tuple[float, float]
"""The stored values that become 0 and 255; of floating-point bands 0 and ``REFLECTANCE``."""
Blank = NDArray[np.bool_]
"""(H, W), True where a pixel holds nothing."""
_PHOTOMETRIC = TiffImagePlugin.PHOTOMETRIC_INTERPRETATION
_TOPS = tuple((1 << bits) - 1 for bits in (8, 10, 12, 14, 16))  # of cameras and scanners
_SMALL = 1 / 16  # of a range: pictures that fill less of it are nearly black, or of one grey
_WIDEST = 1e30  # of a range of values: such are no measurements
_FEW_STEPS = 256  # of a range, between the values of a band: fewer than a photo's
_OPAQUE = 257  # of 16 bits, for each of the 255 steps of 8


@dataclass(frozen=True)
class Deep:
    """A picture's own values, (H, W), (H, W, 3) or (H, W, 4), the last of which is its opacity."""

    values: NDArray[np.integer | np.floating]
    stated: Range | None  # where the file says which range they have
    white_is_zero: bool = False  # the least value is the brightest
    blank: Blank | None = None  # where there are no values; None for nowhere

    @property
    def floating(self) -> bool:
        return bool(np.issubdtype(self.values.dtype, np.floating))

    @property
    def spread(self) -> Range:
        """The least and the greatest value of its colours."""
        return spread_of(self.values[..., :3] if self.values.ndim == 3 else self.values, self.blank)

    @property
    def hides_all(self) -> bool:
        """Tell whether its opacity hides all of it."""
        return self.values.ndim == 3 and self.values.shape[-1] == 4 and int(self.values[:, :, 3].max()) < _OPAQUE

    @property
    def opacity(self) -> NDArray[np.uint8] | None:
        """(H, W), up to 255; None where it has none."""
        if self.values.ndim < 3 or self.values.shape[-1] < 4:
            return None
        return np.asarray(self.values[:, :, 3] // _OPAQUE, np.uint8)

    def to_8_bits(self, top: int, bottom: int, *, reach: Range, profile: bytes | None) -> Image.Image:
        """Rows as a picture of 8 bits with that ICC profile; what lies beyond the range is cut off."""
        values = self.values[top:bottom]
        if values.dtype.newbyteorder("=") == np.uint16:
            pixels = self._scaled(np.arange(1 << 16), reach)[values]
        else:
            pixels = self._scaled(values, reach)
        if values.ndim == 3 and values.shape[-1] == 4:
            pixels[:, :, 3] = values[:, :, 3] // _OPAQUE
        picture = Image.fromarray(pixels)
        if profile:
            picture.info["icc_profile"] = profile
        return picture

    def _scaled(self, values: NDArray[Any], reach: Range) -> NDArray[np.uint8]:
        low, high = reach
        held = np.nan_to_num(values.astype(np.float64).clip(low, high), nan=low)
        scaled = (held - low) * (255 / (high - low))
        scaled = 255 - scaled if self.white_is_zero else scaled
        pixels: NDArray[np.uint8] = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
        return pixels


def sample_bits(picture: Image.Image) -> int:
    """Bits of a value as a TIFF states them; 16 of other formats, which hold no more."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return int(picture.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0])
    return 16


def deep_values(
    stream: IO[bytes],
    picture: Image.Image,
    turn: Callable[[NDArray[Any]], NDArray[Any]],
    *,
    nodata: float | None = None,
) -> Deep | None:
    """The values of a loaded picture of more than 8 bits; None for others, and where Pillow's 8 bits must do.

    Args:
        turn: brings what a TIFF stores upright, as Pillow has brought the picture.
        nodata: the value of pixels that hold nothing.
    """
    deep = _deep_values(stream, picture, turn)
    return deep and replace(deep, blank=blank_pixels(deep.values, nodata))


def _deep_values(stream: IO[bytes], picture: Image.Image, turn: Callable[[NDArray[Any]], NDArray[Any]]) -> Deep | None:
    is_tiff, bits = picture.format == "TIFF", sample_bits(picture)
    inverse = isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.tag_v2.get(_PHOTOMETRIC) == 0
    if picture.mode == "F":
        return Deep(as_array(picture), None if is_tiff else (0, 1), inverse)
    if picture.mode.startswith("I"):  # PNG and TIFF hold fewer bits in 16 or 32; other formats say how many
        vague = bits >= 16 and (is_tiff or picture.format == "PNG")
        return Deep(as_array(picture), None if vague else (0, (1 << bits) - 1), inverse)
    if picture.mode in ("RGB", "RGBA", "LA") and picture.format == "PNG" and "transparency" not in picture.info:
        stream.seek(24)
        if stream.read(1) == b"\x10":
            stream.seek(0)
            values = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
            if values is not None and values.dtype == np.uint16 and values.ndim == 3:
                return Deep(swap_red_and_blue(values), None)
    if picture.mode in ("RGB", "RGBA") and is_tiff and bits == 16:
        with suppress(Refused):
            return Deep(turn(Tiff(stream).pixels()), None)
    return None


def blank_pixels(values: NDArray[Any], nodata: float | None) -> Blank | None:
    """Where a picture (H, W[, bands]) holds nothing: every band has the value ``nodata``, or one is NaN or infinite.

    None where it is whole.
    """
    floating = values.dtype.kind == "f"
    if not floating:
        limits = np.iinfo(values.dtype)
        if nodata is None or nodata % 1 or not limits.min <= nodata <= limits.max:  # no pixel can have such a value
            return None
    with np.errstate(over="ignore"):
        own = values.dtype.type(nodata or 0)  # as a float of 32 bits has it, where the values are such
    blank: Blank | None = None
    for top, bottom in strips_of((values.shape[1], values.shape[0])):
        rows = values[top:bottom].reshape(bottom - top, values.shape[1], -1)
        empty = ~np.isfinite(rows).all(axis=2) if floating else np.zeros(rows.shape[:2], bool)
        if nodata is not None:
            empty |= (rows == (own if floating else int(nodata))).all(axis=2)
        if blank is None and empty.any():
            blank = np.zeros(values.shape[:2], bool)
        if blank is not None:
            blank[top:bottom] = empty
    return blank


def spread_of(values: NDArray[Any], blank: Blank | None) -> Range:
    """The least and the greatest of values (H, W[, bands]), but for pixels that hold nothing.

    Raises:
        Refused: if all are such, or the others are out of all bounds.
    """
    if blank is None:
        low, high = float(values.min()), float(values.max())
    elif blank.all():
        raise Refused("it holds no values at all", "leave the picture out")
    else:
        held = ~blank if values.ndim == 2 else ~blank[:, :, None]
        kind = np.finfo(values.dtype) if values.dtype.kind == "f" else np.iinfo(values.dtype)
        low, high = float(values.min(where=held, initial=kind.max)), float(values.max(where=held, initial=kind.min))
    if not high - low < _WIDEST:
        raise Refused(f"its values, from {low:g} to {high:g}, are of no use", "state those that stand for nothing")
    return low, high


def scaled_bands(values: NDArray[np.floating], reach: Range, blank: Blank | None) -> NDArray[np.uint16]:
    """Floating-point bands (H, W, bands) as numbers of 16 bits: a range becomes 0 to ``REFLECTANCE``, blank pixels 0.

    What lies beyond the range is cut off.
    """
    low, high = reach
    pixels = np.empty(values.shape, np.uint16)
    for top, bottom in strips_of((values.shape[1], values.shape[0])):
        rows = (values[top:bottom].astype(np.float64).clip(low, high) - low) * (REFLECTANCE / (high - low))
        if blank is not None:
            rows[blank[top:bottom]] = 0
        pixels[top:bottom] = rows + 0.5
    return pixels


def reflectance_range(low: float, high: float) -> Range:
    """The range that floating-point bands with values from ``low`` to ``high`` are likely to have.

    From 0 to 1 for reflectances, of which clouds and glint have some above; from 0 to 10,000 where these are counted in
    ten-thousandths; else what was found.
    """
    if low >= -0.5 and high <= 2:
        return 0, 1
    if low >= -REFLECTANCE / 2 and REFLECTANCE / 10 <= high <= 2 * REFLECTANCE:
        return 0, REFLECTANCE
    return _own_range(low, high)


def _own_range(low: float, high: float) -> Range:
    """From ``low`` to ``high``, with something between where these are one."""
    return low, high if high > low else low + max(1.0, 1e-6 * abs(low))


def common_range(spreads: Sequence[Range], taken: Sequence[int]) -> Range:
    """The one range of floating-point bands, given the least and greatest value of each.

    It is the likely one of all; where those that are ``taken`` are reflectances and others are not, as temperatures, or
    where nothing is known of all, the likely one of the taken.
    """
    all_of_them, own = (
        reflectance_range(min(low for low, _ in some), max(high for _, high in some))
        for some in (spreads, [spreads[band] for band in taken])
    )
    known = ((0, 1), (0, REFLECTANCE))
    return all_of_them if all_of_them in known and own != known[0] else own


def coarse_bands(spreads: Sequence[Range], taken: Sequence[int], reach: Range) -> dict[int, int]:
    """Of bands that share a range those of which little is left in it, for others are of another kind: to each, how
    many of the range's steps lie between its values.

    Bands that are dark in a range of reflectances are none: such they may be.
    """
    found = {}
    for band in taken:
        low, high = spreads[band]
        steps = round((min(high, reach[1]) - max(low, reach[0])) * REFLECTANCE / (reach[1] - reach[0]))
        fractions = low >= -2 and high <= 2
        if low < high and steps < _FEW_STEPS and reach != (0, 1) and (reach != (0, REFLECTANCE) or fractions):
            found[band] = max(0, steps)
    return found


def stated_range(deep: Deep) -> Range:
    """The range that the file states, of 16 bits where it has more, or from 0 to 1 for floating-point numbers.

    Raises:
        Refused: if not all values lie in it, so that nothing says what range they have.
    """
    stated = deep.stated or ((0, 1) if deep.floating else (0, _TOPS[-1]))
    low, high = deep.spread
    if low < stated[0] or high > stated[1]:
        bits = 8 * deep.values.itemsize
        why = (
            "floating-point pixels are not all in [0, 1]" if deep.floating else f"{bits}-bit pixels have no known range"
        )
        raise Refused(f"its {why}", "save it with 8 or 16 bits")
    return stated


def likely_range(deep: Deep) -> Range:
    """The range that the file states, or that its own values seem to have."""
    return deep.stated or whole_range(*deep.spread, floating=deep.floating)


def whole_range(low: float, high: float, *, floating: bool) -> Range:
    """The range that values from ``low`` to ``high`` are likely to have.

    It is that of 8, 10, 12, 14 or 16 bits, or from 0 to 1 or to 255 of floating-point numbers. It is what was found
    where some are negative or greater, or where all lie within a sixteenth of that, as temperatures may.
    """
    tops = (1, 255) if floating else _TOPS
    top = next((top for top in tops if high <= top), None)
    if top is not None and low >= 0 and (high - low >= _SMALL * top or high == low):
        return 0, top
    return _own_range(low, high)


def fits(low: float, high: float, reach: Range) -> bool:
    """Tell if values from ``low`` to ``high`` lie in a range, and are not all nearly black in it."""
    return low >= reach[0] and reach[0] + _SMALL * (reach[1] - reach[0]) <= high <= reach[1]


def in_words(low: float, high: float, reach: Range, top: int = 255) -> str:
    """Such as ``values from 16 to 4,080, of which 0 to 4,095 become 0 to 255``."""
    numbers = (f"{value:,.6g}" if abs(value) < 1e4 else f"{value:,.0f}" for value in (low, high, *reach))
    return "values from {} to {}, of which {} to {} become 0 to {:,}".format(*numbers, top)
