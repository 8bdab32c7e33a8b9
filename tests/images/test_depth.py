"""More than 8 bits: which range they are likely to have, and what becomes of them."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from simclrseg.errors import ImageError
from simclrseg.images.decode import read_image, read_picture, vague_range
from simclrseg.images.depth import fits, in_words, likely_range, whole_range
from tests.images.tiffs import tiff


def encoded(values: np.ndarray, suffix: str = ".png", **options: object) -> bytes:
    """(H, W[, 3 or 4]) of any type as a file of that kind."""
    if values.ndim == 3 and suffix == ".png":  # which Pillow does not write
        order = [2, 1, 0, 3][: values.shape[2]]
        return cv2.imencode(".png", values[:, :, order])[1].tobytes()
    if values.ndim == 3:
        return tiff(values, photometric=2)
    file = io.BytesIO()
    Image.fromarray(values).save(file, {".png": "PNG", ".tif": "TIFF", ".jp2": "JPEG2000"}[suffix], **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("low", "high", "floating", "expected"),
    [
        (0, 200, False, (0, 255)),
        (16, 1000, False, (0, 1023)),
        (0, 4080, False, (0, 4095)),
        (0, 4096, False, (0, 16383)),
        (160, 16000, False, (0, 16383)),
        (0, 65535, False, (0, 65535)),
        (0, 5, False, (0, 5)),  # of 8 bits it would be nearly black
        (29000, 31000, False, (29000, 31000)),  # temperatures in hundredths
        (-1024, 3071, False, (-1024, 3071)),  # of a CT
        (0, 100_000, False, (0, 100_000)),
        (0, 0.9, True, (0, 1)),
        (0.0, 0.02, True, (0, 0.02)),
        (0, 1, True, (0, 1)),
        (3.5, 250, True, (0, 255)),
        (-1, 1, True, (-1, 1)),
        (280, 310.5, True, (280, 310.5)),
        (7, 7, False, (0, 255)),
        (-3, -3, False, (-3, -2)),
    ],
)
def test_the_range_is_that_of_the_bits_that_the_values_need_or_what_was_found(low, high, floating, expected):
    assert whole_range(low, high, floating=floating) == expected


RAMP = np.linspace(0, 1, 48).reshape(6, 8)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T.reshape(6, 8)], axis=2)


@pytest.mark.parametrize("top", [1023, 4095, 65535])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("picture", [RAMP, COLOURS], ids=["grey", "colours"])
def test_each_value_is_scaled_and_rounded(top, suffix, picture):
    values = np.round(picture * top).astype(np.uint16)
    found = read_picture(encoded(values, suffix), reach=likely_range)
    assert found.reach == (0, top) and found.stored == (0, top)
    expected = np.floor(values / top * 255 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(found.pixels, expected if picture.ndim == 3 else np.dstack([expected] * 3))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_whole_and_floating_point_numbers_are_scaled_and_cut_off(dtype):
    values = np.array([[-5, 0, 100, 250, 300, 400]], dtype)
    image = read_image(encoded(values, ".tif"), reach=(0, 300))
    assert image[0, :, 0].tolist() == [0, 0, 85, 213, 255, 255]


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 4095), (np.uint16, 65535), (np.float32, 1)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_where_zero_is_white_a_photo_is_no_negative_whatever_its_depth(dtype, top, order):
    values, kind = (RAMP * top).astype(dtype)[:, :, None], 3 if dtype == np.float32 else 1
    plain, inverse = (
        read_image(tiff(values, photometric=photometric, sample_format=kind, order=order), reach=likely_range)
        for photometric in (1, 0)
    )
    assert plain[-1, -1, 0] == 255 and inverse[-1, -1, 0] == 0
    np.testing.assert_allclose(inverse.astype(int), 255 - plain.astype(int), atol=1)


def test_opacity_has_all_of_its_bits_whatever_the_range():
    values = np.zeros((2, 2, 4), np.uint16)
    values[0, :, :3] = 4095
    values[:, :, 3] = [[65535, 65535], [65535, 0]]
    image = read_image(encoded(values), reach=(0, 4095))
    assert image[0, 0].tolist() == [255, 255, 255] and image[1, 0].tolist() == [0, 0, 0]
    assert image[1, 1].tolist() == [255, 255, 255]  # over white
    assert read_picture(encoded(values), reach=likely_range).reach == (0, 4095)  # that of the colours alone


def test_a_turned_picture_is_turned_with_its_deep_colours():
    values = np.arange(24, dtype=np.uint16).reshape(2, 4, 3) * 100
    exif = Image.Exif()
    exif[0x0112] = 6
    small = io.BytesIO()
    Image.fromarray((values / 4095 * 255).astype(np.uint8)).save(small, "PNG", exif=exif)
    upright = read_image(small.getvalue())
    chunk = small.getvalue()[small.getvalue().index(b"eXIf") - 4 :]
    length = int.from_bytes(chunk[:4], "big") + 12
    deep = encoded(values)
    turned = deep[:33] + chunk[:length] + deep[33:]
    image = read_image(turned, reach=(0, 4095))
    assert image.shape == upright.shape == (4, 2, 3)
    np.testing.assert_allclose(image, upright, atol=1)


def test_a_file_that_states_its_range_is_taken_at_its_word():
    twelve = encoded(np.full((4, 4), 2000, np.uint16), ".jp2")
    assert vague_range(twelve) is None
    file = io.BytesIO()
    Image.new("L", (3, 3), 9).save(file, "TIFF")
    assert vague_range(file.getvalue()) is None
    assert vague_range(encoded(np.full((2, 2), 4000, np.uint16))) == ((4000, 4000), False)
    assert vague_range(encoded(np.full((2, 2), 0.5, np.float32), ".tif")) == ((0.5, 0.5), True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("reach", [likely_range, (0, 1)])
def test_pixels_that_are_no_numbers_hold_nothing(bad, reach):
    picture = read_picture(encoded(np.array([[0.5, bad, 0.25]], np.float32), ".tif"), reach=reach)
    assert picture.blank.tolist() == [[False, True, False]] and picture.stored == (0.25, 0.5)
    with pytest.raises(ImageError, match="it holds no values at all; leave the picture out"):
        read_picture(encoded(np.full((2, 2), bad, np.float32), ".tif"), reach=reach)


def test_what_fits_in_a_range_is_neither_beyond_it_nor_nearly_black():
    assert fits(0, 4095, (0, 4095)) and fits(200, 300, (0, 4095))
    assert not fits(0, 255, (0, 4095)) and not fits(0, 4096, (0, 4095)) and not fits(-1, 4000, (0, 4095))


def test_a_range_is_told_in_short_numbers():
    assert in_words(16, 4080, (0, 4095)) == "values from 16 to 4,080, of which 0 to 4,095 become 0 to 255"
    assert in_words(0.0392156, 0.9, (0, 1)).startswith("values from 0.0392156 to 0.9, of which 0 to 1")


def test_floating_point_bands_are_no_photo():
    with pytest.raises(ImageError, match="a TIFF of 3 floating-point bands, which are not a photo's; save red, green"):
        read_image(tiff(COLOURS.astype(np.float32), photometric=2, sample_format=3))
