"""Pictures and labels that claim more than a machine has: refused in one line, before memory is taken for them."""

from __future__ import annotations

import gc
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from simclrseg.errors import ImageError
from simclrseg.images import opening, strips
from simclrseg.images import tiff as tiffs_read
from simclrseg.images.decode import image_shape, is_hidden, read_image, read_picture, read_scene, vague_range
from simclrseg.images.limits import LARGE, MAX_PIXELS
from simclrseg.images.stored_masks import read_stored_mask
from simclrseg.labels import polygons
from simclrseg.labels.polygons import Object, Region, Runs, draw
from simclrseg.labels.rle import decode_rle
from tests.images.tiffs import tiff

SIDE = 13_300  # its square is just below the limit
READERS = (read_picture, read_stored_mask)


def png(width: int, height: int, *, depth: int = 8, kind: int = 2, rows: bytes = bytes(100)) -> bytes:
    """A PNG of any size, of little content."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def jpeg(width: int, height: int, **options: object) -> bytes:
    """A JPEG whose header claims another size than it has."""
    file = BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "JPEG", **options)
    data = file.getvalue()
    frame = data.index(b"\xff\xc2" if options else b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def restated(data: bytes, **fields: int) -> bytes:
    """A little-endian TIFF with other numbers in its first directory, by tag as ``t256``."""
    (start,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[start : start + 2])
    changed = bytearray(data)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack("<HH", data[entry : entry + 4])
        if (value := fields.get(f"t{tag}")) is not None:
            changed[entry + 2 : entry + 12] = struct.pack("<HII", 4 if kind == 4 or value > 65535 else 3, 1, value)
    return bytes(changed)


def claiming(
    bands: int, dtype: type = np.uint8, *, deflate: bool = True, width: int = SIDE, height: int = SIDE
) -> bytes:
    """A TIFF of any size, of little content."""
    small = tiff(np.zeros((8, 8, bands), dtype), deflate=deflate, photometric=2 if bands == 3 else 1)
    return restated(small, t256=width, t257=height, t278=height)


def peak(work: Callable[[], object]) -> int:
    """Bytes that Python and NumPy take meanwhile at most."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "data",
    [
        png(SIDE, SIDE),
        png(SIDE, SIDE, depth=16, kind=6),
        jpeg(SIDE, SIDE),
        jpeg(SIDE, SIDE, progressive=True),
        claiming(3),
        claiming(1, np.uint16),
        claiming(3, np.uint16),
        claiming(3, deflate=False),
        b"P6 13300 13300 255\n" + bytes(100),
        struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, SIDE, SIDE, 24, 0) + bytes(300),
    ],
    ids=["png", "png of 16 bits", "jpeg", "progressive", "tiff", "grey tiff", "deep tiff", "plain tiff", "ppm", "tga"],
)
def test_a_file_that_cannot_hold_what_it_claims_is_refused_before_it_is_decoded(read, data, tmp_path):
    file = tmp_path / ("x.tga" if data[2] == 10 else "x")
    file.write_bytes(data)
    with pytest.raises(ImageError, match=r"x.*: it is damaged or cut short: [\d,]+ bytes cannot hold it; copy"):
        read(file)


@pytest.mark.parametrize("read", [read_picture, read_stored_mask, read_scene])
@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (178_000_000, 1), (1, 178_000_000)])
def test_no_side_and_no_area_is_without_a_limit(read, width, height):
    with pytest.raises(ImageError, match=rf"{width} x {height} .*(more than the 178,956,970|has 1,048,576)"):
        read(claiming(3, width=width, height=height))


@pytest.mark.parametrize(("bands", "dtype"), [(13, np.uint16), (200, np.uint8), (65_535, np.uint8)])
def test_bands_and_bytes_count_against_the_limit_of_pixels(bands, dtype):
    pixel = bands * np.dtype(dtype).itemsize
    side = int((8 * MAX_PIXELS / pixel) ** 0.5) + 1
    with pytest.raises(ImageError, match=rf"{side} x {side} pixels of {pixel:,} bytes take .* shrink it or cut it up"):
        read_scene(claiming(bands, dtype, width=side, height=side))
    assert read_scene(claiming(13, width=8, height=8)).pixels.shape == (8, 8, 13)


def test_more_pixels_may_be_allowed_and_bytes_with_them():
    data = claiming(13, np.uint16, width=8000, height=8000)
    with pytest.raises(ImageError, match="1,664,000,000"):
        read_scene(data)
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_scene(data, max_pixels=2 * MAX_PIXELS)


def test_a_tile_larger_than_its_picture_is_refused():
    data = tiff(np.zeros((64, 64, 13), np.uint8), deflate=True, tile=64)
    with pytest.raises(ImageError, match=r"a tile of it takes [\d,]+ bytes"):
        read_scene(restated(data, t322=65_536, t323=65_536))


def test_a_tiff_of_far_too_many_blocks_is_refused(monkeypatch):
    monkeypatch.setattr(tiffs_read, "_MANY", 100)
    data = tiff(np.zeros((300, 1, 1), np.uint8), rows=1)
    assert image_shape(data) == (300, 1)
    for read in (read_picture, read_stored_mask, image_shape, is_hidden, vague_range):
        with pytest.raises(ImageError, match="it is damaged: 300 blocks where 64 hold all"):
            read(restated(data, t257=64))


def test_a_jpeg_2000_counts_what_its_tiles_take_and_has_one_size():
    file = BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG2000")
    data, inner = file.getvalue(), file.getvalue().index(b"\xff\x51")
    large = bytearray(data)
    at = data.index(b"ihdr") + 4
    large[at : at + 8] = large[inner + 6 : inner + 14] = large[inner + 22 : inner + 30] = struct.pack(">II", SIDE, SIDE)
    with pytest.raises(ImageError, match="a tile of it takes 2,653,350,000 bytes to decode"):
        read_image(bytes(large))
    large[at : at + 8] = struct.pack(">II", 64, 64)
    with pytest.raises(ImageError, match="its headers state two sizes"):
        read_image(bytes(large))
    assert read_image(data).shape == (64, 64, 3)


def test_a_large_animation_is_refused_and_a_large_still_is_not(monkeypatch):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    file = BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    canvas = struct.pack("<I", SIDE - 1)[:3]
    data, at = file.getvalue(), file.getvalue().index(b"VP8X") + 12
    with pytest.raises(ImageError, match=f"an animation of more than {LARGE:,} pixels; save its first frame alone"):
        read_image(data[:at] + canvas + canvas + data[at + 6 :])
    assert read_image(data).shape == (64, 64, 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_a_large_webp_has_the_pixels_of_a_small_one(monkeypatch, mode, lossless):
    values = np.random.default_rng(0).integers(0, 256, (40, 60, len(mode)), np.uint8)
    file = BytesIO()
    Image.fromarray(values).save(file, "WEBP", lossless=lossless, exact=True, quality=90)
    usual, mask = read_image(file.getvalue()), read_stored_mask(file.getvalue())
    monkeypatch.setattr(opening, "LARGE", 100)
    np.testing.assert_array_equal(read_image(file.getvalue()), usual)
    again = read_stored_mask(file.getvalue())
    np.testing.assert_array_equal(again.values, mask.values)
    np.testing.assert_array_equal(again.alpha, mask.alpha)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I", "F", "I;16"])
def test_a_large_mask_is_in_memory_once_beside_its_decoder(monkeypatch, mode):
    picture = Image.new(mode, (2000, 1000))
    file = BytesIO()
    picture.save(file, "TIFF", compression="tiff_adobe_deflate")
    data = file.getvalue()
    usual = read_stored_mask(data).values
    taken = peak(lambda: read_stored_mask(data))
    assert taken < 2.4 * (usual.nbytes if mode != "RGBA" else 4 * 2000 * 1000)
    monkeypatch.setattr(strips, "AT_ONCE", 1 << 30)
    np.testing.assert_array_equal(read_stored_mask(data).values, usual)


def test_deep_photos_are_scaled_without_a_second_copy_of_them():
    values = np.random.default_rng(0).integers(0, 1 << 16, (2, 2, 3), np.uint16).repeat(700, 0).repeat(700, 1)
    data = tiff(values, deflate=True, photometric=2)
    assert peak(lambda: read_picture(data)) < 2 * values.nbytes + 60e6


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([2**63 - 1, 2**63 - 1, 2, 1024], "cover 18,446,744,073,709,552,640 pixels of 32 x 32"),  # 1,024 if it wraps
        ([0, 10**10], "cover 10,000,000,000 pixels of 32 x 32"),
        ([0] * 10**6 + [1024], "1,000,001 run lengths are more than 32 x 32 pixels need"),
        ("0" * 10**6, "1,000,000 run lengths are more than"),
        ([10**30, 1], "no run lengths"),
        ([1.5, 1022.5], "no run lengths"),
        ("é", "no run lengths"),
    ],
)
def test_run_lengths_that_are_none_of_the_photo_are_refused(counts, reason):
    with pytest.raises(ValueError, match=reason):
        decode_rle(counts, (32, 32))


@pytest.mark.parametrize(
    ("part", "size", "reason"),
    [
        (Runs((10**5, 10**5), [0, 10**10]), (10**5, 10**5), "100000 x 100000 pixels, more than"),
        (np.array([[0, 0], [1e300, 1], [0, 5]]), (32, 32), "outside of any photo"),
        (np.array([[-1e308, 0], [1e308, 1], [0, 5e307]]), (32, 32), "outside of any photo"),
        (
            np.stack([np.tile([0.0, 4000.0], 10**4), np.linspace(0, 4000, 2 * 10**4)], 1),
            (4000, 4000),
            "to and fro over 80,000,000 pixels",
        ),
    ],
)
def test_objects_without_end_are_refused(part, size, reason):
    with pytest.raises(ValueError, match=reason):
        draw([Object(1, (part,))], size)


def test_many_large_objects_are_not_all_held_at_once(monkeypatch):
    objects = [Object(number, (Runs((1000, 1000), [number, 10**6 - number]),)) for number in range(1, 100)]
    whole = draw(objects, (1000, 1000))
    monkeypatch.setattr(polygons, "_KEPT", 10**7)
    assert peak(lambda: draw(objects, (1000, 1000))) < 3e7
    np.testing.assert_array_equal(draw(objects, (1000, 1000)), whole)
    assert whole.T.ravel()[:101].tolist() == [*range(100), 99]


def test_an_outline_of_a_million_points_is_filled_in_parts(monkeypatch):
    turn = np.linspace(0, 2 * np.pi, 10**6, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], 1) * 200 + 250
    usual = polygons.fill(ring, (500, 500))
    monkeypatch.setattr(polygons, "_AT_ONCE", 50)
    again = polygons.fill(ring[::100], (500, 500))
    assert isinstance(again, Region) and (again.top, again.left) == (usual.top, usual.left)
    assert abs(np.count_nonzero(usual.pixels) - np.pi * 200**2) < 100
    assert np.count_nonzero(usual.pixels != again.pixels) < 20
