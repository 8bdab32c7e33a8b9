"""PNGs written row by row."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from simclrseg.inference.png import PngWriter


@pytest.mark.parametrize(("bands", "bits"), [(1, 8), (1, 16), (3, 8), (4, 8)])
@pytest.mark.parametrize("rows", [1, 7, 50])
def test_a_png_written_in_pieces_reads_back(bands, bits, rows):
    shape = (50, 37) if bands == 1 else (50, 37, bands)
    pixels = np.random.default_rng(0).integers(0, 2**bits, shape).astype(np.uint8 if bits == 8 else np.uint16)
    file = io.BytesIO()
    writer = PngWriter(file, (50, 37), bands=bands, bits=bits)
    for top in range(0, 50, rows):
        writer.write(pixels[top : top + rows])
    writer.end()
    with Image.open(file) as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_a_palette_is_kept_with_the_indexes():
    colours = [(0, 0, 0), (200, 10, 20), (1, 2, 3)]
    ids = np.array([[0, 1], [2, 1]], np.uint8)
    file = io.BytesIO()
    writer = PngWriter(file, (2, 2), palette=colours)
    writer.write(ids)
    writer.end()
    with Image.open(file) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), ids)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.array(colours, np.uint8)[ids])


def test_rows_that_are_no_block_of_memory_are_written_as_they_look():
    pixels = np.arange(24, dtype=np.uint16).reshape(4, 6)[::-1, ::2]
    file = io.BytesIO()
    writer = PngWriter(file, (4, 3), bits=16)
    writer.write(pixels)
    writer.end()
    with Image.open(file) as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)
