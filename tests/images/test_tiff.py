"""TIFFs of any number of bands come back as they were written."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from simclrseg.errors import ImageError
from simclrseg.images.decode import image_shape, read_image, read_scene, stored_bands
from simclrseg.images.stored_masks import read_stored_mask
from tests.images.tiffs import tiff


def picture(bands: int, dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(bands).integers(0, np.iinfo(dtype).max, (21, 34, bands), endpoint=True).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 3, 4, 13])
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"rows": 8},
        {"planar": True, "rows": 5},
        {"order": ">"},
        {"deflate": True, "predictor": 2, "rows": 6},
        {"deflate": True, "predictor": 2, "order": ">"},
        {"tile": 16, "deflate": True},
        {"tile": 16, "planar": True},
    ],
)
def test_bands_come_back_as_they_were_stored(layout: dict, bands: int, dtype: type) -> None:
    stored = picture(bands, dtype)
    read = read_scene(tiff(stored, **layout)).pixels
    assert read.dtype == dtype and read.flags.c_contiguous
    np.testing.assert_array_equal(read, stored)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize(("bands", "dtype"), [(3, np.uint8), (1, np.uint16)])
def test_what_pillow_writes_is_read_alike(compression: str | None, bands: int, dtype: type) -> None:
    stored = picture(bands, dtype) // 7
    file = io.BytesIO()
    Image.fromarray(stored.squeeze()).save(file, "TIFF", compression=compression)
    np.testing.assert_array_equal(read_scene(file.getvalue()).pixels, stored)


def test_16_bits_are_those_that_opencv_reads(real_data: Path) -> None:
    file = real_data / "odd_images" / "tiff_16bit_RGB.tiff"
    read = read_scene(file).pixels
    assert read.dtype == np.uint16 and read.max() > 255
    np.testing.assert_array_equal(read, cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[:, :, ::-1])


@pytest.mark.parametrize("bands", [3, 4, 13])
def test_size_and_bands_are_read_from_the_header(bands: int) -> None:
    start = tiff(picture(bands))[:500]
    assert image_shape(start) == (21, 34)
    assert stored_bands(start) == (bands, 16)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "P", "I;16", "LAB"])
def test_a_photo_has_no_bands_to_keep(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (4, 4)).save(file, "TIFF")
    assert stored_bands(file.getvalue()) is None
    assert read_image(file.getvalue()).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("bands", "photometric", "extra", "photo"),
    [
        (1, 1, None, True),
        (2, 1, 2, True),
        (2, 1, 0, False),  # radar: two polarisations
        (2, 1, None, False),
        (3, 2, None, True),
        (4, 2, 2, True),
        (4, 2, 0, False),  # near-infrared
        (4, 2, None, False),
        (5, 2, 2, False),
    ],
)
def test_a_fourth_band_is_transparency_where_the_file_says_so(
    bands: int, photometric: int, extra: int | None, photo: bool
) -> None:
    stored = stored_bands(tiff(picture(bands, np.uint8), photometric=photometric, extra=extra))
    assert stored == (None if photo else (bands, 8))


@pytest.mark.parametrize(("compression", "name"), [(34887, "LERC"), (50001, "WebP")])
def test_a_rare_compression_is_named_as_what_is_not_read(compression: int, name: str) -> None:
    content = tiff(picture(3, np.uint8), photometric=2, compression=compression)
    with pytest.raises(ImageError, match=rf"its compression, {name}, is not read here; save it with LZW or Deflate$"):
        read_image(content)


def test_many_bands_are_no_photo(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ImageError, match=r"a TIFF of 13 bands, which are not a photo's; save red, green and blue"):
        read_image(tiff(picture(13)))
    assert not caplog.records  # nothing of Pillow's own


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiff(picture(13))[:-50], "damaged or cut short"),
        (tiff(picture(13))[:100], "damaged or cut short"),
        (b"II*\0", "damaged or cut short"),
        (b"\x89PNG\r\n", "not a TIFF"),
        (tiff(picture(5).astype(np.uint32)), "32-bit unsigned samples are not read"),
        (tiff(picture(5), sample_format=3), "16-bit floating-point samples are not read"),
        (tiff(picture(5), sample_format=2), "negative samples"),
        (tiff(picture(5), predictor=3), r"compression \(TIFF 1, 3\)"),
    ],
    ids=["end", "directory", "header", "kind", "long", "float", "signed", "predictor"],
)
def test_what_cannot_be_read_is_one_line(content: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read_scene(content)
    assert "\n" not in str(caught.value)


def test_a_picture_that_claims_too_many_pixels_is_refused_by_its_header() -> None:
    with pytest.raises(ImageError, match="more than the 700 allowed"):
        read_scene(tiff(picture(13)), max_pixels=700)


@pytest.mark.parametrize("bands", [3, 13])
def test_a_bigtiff_of_big_endian_numbers_is_not_called_damaged(tmp_path: Path, bands: int) -> None:
    file = tmp_path / "slide.ome.tif"
    tifffile.imwrite(file, picture(bands), bigtiff=True, byteorder=">", planarconfig="contig", metadata=None)
    for read in (read_image, read_scene, read_stored_mask):
        with pytest.raises(ImageError, match=r"a BigTIFF of big-endian numbers, .* save it as another TIFF, or as PNG"):
            read(file)


@pytest.mark.parametrize(
    ("names", "photo"),
    [
        ("B02 B03 B04", False),  # as GDAL stores three bands of bytes
        ("nir red green", False),
        ("B04 B03 B02", True),
        ("first second third", True),
        ("", True),
    ],
)
def test_names_say_which_bands_are_stored_as_red_green_and_blue(names: str, photo: bool) -> None:
    stored, file = picture(3, np.uint8), io.BytesIO()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    items = (
        f'<Item name="DESCRIPTION" sample="{at}" role="description">{one}</Item>'
        for at, one in enumerate(names.split())
    )
    tags[42112] = f"<GDALMetadata>{''.join(items)}</GDALMetadata>"
    Image.fromarray(stored).save(file, "TIFF", tiffinfo=tags)
    assert stored_bands(file.getvalue()) == (None if photo else (3, 8))
    if not photo:
        read = read_scene(file.getvalue())
        assert read.bands == (("blue", "green", "red") if names.startswith("B") else ("nir", "red", "green"))
        np.testing.assert_array_equal(read.pixels, stored)
