"""Mask files as they are stored."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from simclrseg.errors import ImageError
from simclrseg.images.stored_masks import read_mask, read_stored_mask
from tests.images.pngs import grey_png
from tests.images.tiffs import tiff

IDS = np.arange(6, dtype=np.uint8).reshape(2, 3)
COLOURS = np.dstack([IDS, IDS * 40, 255 - IDS])


@pytest.mark.parametrize("factor", [1, 256, 257])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_of_sixteen_bits_are_those_of_eight(tmp_path, factor, suffix):
    file = tmp_path / f"mask{suffix}"
    colours = COLOURS.astype(np.uint16) * np.uint16(factor)
    cv2.imwrite(str(file), colours[:, :, ::-1])
    np.testing.assert_array_equal(read_stored_mask(file).values, colours)
    np.testing.assert_array_equal(read_mask(file), COLOURS)
    colours[0, 0] = 1000
    cv2.imwrite(str(file), colours[:, :, ::-1])
    if factor > 1:
        with pytest.raises(ImageError, match="its 16-bit colours are none of 8 bits"):
            read_mask(file)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_inverting_table_changes_no_value(dtype, order):
    values, kind = IDS.astype(dtype)[:, :, None], {"u": 1, "i": 2, "f": 3}[np.dtype(dtype).kind]
    for photometric in (0, 1):
        stored = read_stored_mask(tiff(values, photometric=photometric, sample_format=kind, order=order))
        assert stored.inverting == (photometric == 0)
        np.testing.assert_array_equal(stored.values, IDS)


@pytest.mark.parametrize("order", ["<", ">"])
def test_values_of_either_byte_order_are_numbers_of_this_machine(order):
    stored = read_stored_mask(tiff(np.uint16([[[1], [65535]]]), order=order), turned_by=3)
    assert stored.values.dtype == np.uint16 and stored.values.tolist() == [[65535, 1]]


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("form", ["png", "tif", "inverting tif"])
def test_numbers_of_two_and_four_bits_are_those_that_are_stored_and_know_the_grey_that_they_show(bits, form):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4) % 2**bits
    if form == "png":
        stored = read_stored_mask(grey_png(ids, bits))
    else:
        stored = read_stored_mask(tiff(ids[:, :, None], bits=bits, photometric=int(form == "tif")))
    np.testing.assert_array_equal(stored.values, ids)
    np.testing.assert_array_equal(stored.palette[ids][:, :, 0], ids * (255 // (2**bits - 1)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_known_in_every_mode(tmp_path, mode):
    alpha = np.where(IDS == 0, 0, 255).astype(np.uint8)
    file = tmp_path / "mask.png"
    if mode == "P":
        picture = Image.fromarray(IDS)
        picture.putpalette(range(18))
        picture.save(file, transparency=0)
    else:
        bands = [Image.fromarray(IDS)] * (3 if mode == "RGBA" else 1)
        Image.merge(mode, [*bands, Image.fromarray(alpha)]).save(file)
    np.testing.assert_array_equal(read_stored_mask(file).alpha, alpha)


def test_a_mask_is_turned_by_its_own_orientation_or_else_by_its_photo_s(tmp_path):
    file = tmp_path / "mask.png"
    Image.fromarray(IDS).save(file)
    np.testing.assert_array_equal(read_stored_mask(file, turned_by=3).values, IDS[::-1, ::-1])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IDS).save(file, exif=exif)
    stored = read_stored_mask(file, turned_by=3)
    assert stored.turned
    np.testing.assert_array_equal(stored.values, np.rot90(IDS, -1))


def test_a_mask_of_many_bands_is_told_what_a_mask_is():
    with pytest.raises(ImageError, match="a TIFF of 5 bands, and a mask has one; save class ids as an 8-bit PNG"):
        read_stored_mask(tiff(np.zeros((2, 3, 5), np.uint8)))
