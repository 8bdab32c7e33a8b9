"""Reading pictures."""

from __future__ import annotations

import errno
import io
import os
import struct
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from simclrseg.errors import DataError, ImageError
from simclrseg.images import decode, opening, strips, tiff
from simclrseg.images.decode import image_shape, read_image, read_picture
from simclrseg.images.listing import list_files, list_images
from simclrseg.images.opening import turn_back
from simclrseg.images.stored_masks import read_mask
from tests.images.odd import UNREADABLE, orientation_exif
from tests.no_files import REASONS, put_no_files


def refusing(path, *_, **__):
    """What the system does with a path that is another user's."""
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def photo(height: int = 40, width: int = 60) -> np.ndarray:
    """A smooth picture with a different colour in every corner."""
    corners = np.array([[[250, 20, 20], [20, 250, 20]], [[20, 20, 250], [240, 240, 20]]], np.uint8)
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_every_odd_picture_is_read_or_refused_in_one_line(real_data):
    files = sorted((real_data / "odd_images").iterdir())
    assert len(files) == 39
    for file in files:
        start = time.perf_counter()
        if file.name in UNREADABLE:
            with pytest.raises(ImageError) as caught:
                read_image(file)
            assert UNREADABLE[file.name] in str(caught.value)
            assert str(caught.value).startswith(str(file))
            assert "\n" not in str(caught.value)
        else:
            image = read_image(file)
            assert image.dtype == np.uint8
            assert image.flags.c_contiguous
            assert image.shape == (*image_shape(file), 3)
        assert time.perf_counter() - start < 2


def test_the_same_scene_is_seen_in_all_its_orientations(real_data):
    upright, *others = (read_image(real_data / "odd_images" / f"Landscape_{n}.jpg") for n in (1, 3, 6, 8))
    upright = cv2.resize(upright, (90, 60), interpolation=cv2.INTER_AREA).astype(int)
    for other in others:
        small = cv2.resize(other, (90, 60), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(small - upright).mean() < 8  # only the figure in the middle differs


def test_lab_and_avif_show_the_same_colours(real_data):
    lab, avif = (read_image(real_data / "odd_images" / name).astype(int) for name in ("hopper.Lab.tif", "hopper.avif"))
    assert np.abs(lab - avif).mean() < 5


def test_plain_photos_equal_pillows_pixels(real_data):
    for file in sorted((real_data / "cats_vs_dogs" / "cat").iterdir())[:20]:
        with Image.open(file) as picture:
            np.testing.assert_array_equal(read_image(file), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_in_every_format(tmp_path, kind, orientation):
    upright = photo()
    # the inverse of each orientation, by numpy, makes what a camera would have stored
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    picture = Image.fromarray(np.ascontiguousarray(stored))
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    file = tmp_path / f"photo.{kind.lower()}"
    file.write_bytes(encoded(picture, kind, exif=orientation_exif(orientation), **options))
    assert np.abs(read_image(file).astype(int) - upright).max() < 25
    assert image_shape(file) == upright.shape[:2]
    found = read_picture(file)
    assert np.abs(turn_back(found.pixels, found.orientation).astype(int) - stored).max() < 25


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"optimize": True}, {"quality": 10}])
def test_any_jpeg_coding_equals_pillows_pixels(options):
    data = encoded(Image.fromarray(photo()), "JPEG", **options)
    np.testing.assert_array_equal(read_image(data), np.asarray(Image.open(io.BytesIO(data))))


def test_an_rgb_coded_jpeg_keeps_its_colours():
    data = encoded(Image.fromarray(photo()), "JPEG", keep_rgb=True, quality=95)
    assert np.abs(read_image(data).astype(int) - photo()).max() < 25


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_cut_jpeg_is_refused(share):
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)), "JPEG")
    with pytest.raises(ImageError, match="cut short"):
        read_image(data[: int(share * len(data))])


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm():
    data = encoded(Image.fromarray(photo()), "JPEG")
    np.testing.assert_array_equal(read_image(data + b"\0" * 100), read_image(data))


def test_a_wide_gamut_profile_is_brought_to_srgb():
    data = encoded(Image.fromarray(photo()), "JPEG", icc_profile=wide_profile(), quality=95)
    plain = read_image(encoded(Image.fromarray(photo()), "JPEG", quality=95))
    vivid = read_image(data)
    assert np.abs(vivid.astype(int) - plain).max() > 20
    assert vivid[0, 0, 0] >= plain[0, 0, 0]  # a wider red is a stronger sRGB red


@pytest.mark.parametrize("profile", [b"not a profile", None])
def test_a_broken_profile_and_an_srgb_profile_change_nothing(profile):
    profile = profile or ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(Image.fromarray(photo()), "JPEG", icc_profile=profile)
    np.testing.assert_array_equal(read_image(data), read_image(encoded(Image.fromarray(photo()), "JPEG")))


def wide_profile() -> bytes:
    """An sRGB profile with a redder red."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entry = profile.index(b"rXYZ")  # the tag table: signature, offset, size
    (offset,) = struct.unpack_from(">I", profile, entry + 4)
    struct.pack_into(">i", profile, offset + 8, int(0.62 * 65536))  # X of red: 0.44 in sRGB
    return bytes(profile)


def test_transparent_pixels_are_white():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = 10, 20, 30, 255
    pixels[1, 1] = 0, 0, 0, 128
    image = read_image(encoded(Image.fromarray(pixels), "PNG"))
    assert image[0, 0].tolist() == [10, 20, 30]
    assert image[0, 1].tolist() == [255, 255, 255]
    assert image[1, 1].tolist() == [127, 127, 127]


@pytest.mark.parametrize(("kind", "mode"), [("TGA", "RGBA"), ("PNG", "RGBA"), ("PNG", "LA"), ("TIFF", "RGBA")])
@pytest.mark.parametrize("large", [False, True])
def test_a_photo_that_is_hidden_as_a_whole_shows_its_colours(tmp_path, monkeypatch, kind, mode, large):
    if large:
        monkeypatch.setattr(strips, "AT_ONCE", 600)
    colours = Image.fromarray(photo()).convert("RGB" if mode == "RGBA" else "L")
    for opacity in (0, 1):  # of the last pixel
        alpha = np.zeros((40, 60), np.uint8)
        alpha[-1, -1] = opacity
        picture = colours.copy()
        picture.putalpha(Image.fromarray(alpha))
        file = tmp_path / f"photo.{kind.lower()}"
        picture.save(file)
        found = read_picture(file)
        assert found.hidden == (opacity == 0)
        expected = np.full((40, 60, 3), 255) if opacity else np.asarray(colours.convert("RGB"))
        np.testing.assert_allclose(found.pixels.astype(int), expected, atol=1)


def test_a_deep_photo_that_is_hidden_as_a_whole_shows_its_colours():
    values = np.dstack([photo()[:, :, ::-1].astype(np.uint16) * 257, np.zeros((40, 60), np.uint16)])
    found = read_picture(cv2.imencode(".png", values)[1].tobytes())
    assert found.hidden
    np.testing.assert_array_equal(found.pixels, photo())


def test_sixteen_bits_are_scaled_to_eight():
    values = np.array([[0, 128, 257, 32768, 65406, 65535]], np.uint16)
    image = read_image(encoded(Image.fromarray(values), "PNG"))
    assert image[0, :, 0].tolist() == [0, 0, 1, 128, 254, 255]


def test_floats_outside_the_unit_range_are_refused():
    inside, outside = (encoded(Image.fromarray(np.float32([[0, top]])), "TIFF") for top in (1, 7))
    assert read_image(inside)[0, :, 0].tolist() == [0, 255]
    with pytest.raises(ImageError, match=r"\[0, 1\]"):
        read_image(outside)


def test_the_limit_holds_before_any_pixel_is_decoded():
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    idat = b"IDAT" + zlib.compress(b"")
    data += struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    with pytest.raises(ImageError, match="2,500,000,000 pixels"):
        read_image(data)
    with pytest.raises(ImageError, match="2,400 pixels, more than the 2,399"):
        read_picture(encoded(Image.fromarray(photo()), "JPEG"), max_pixels=2399)
    assert read_picture(encoded(Image.fromarray(photo()), "JPEG"), max_pixels=2400).pixels.shape == (40, 60, 3)


def test_pillows_own_limit_and_its_warning_play_no_part(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(encoded(Image.fromarray(photo()), "PNG")).shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC is not supported"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture"),
        (b"\xff\xd8\xff\xe0", "damaged"),
    ],
)
def test_what_is_no_picture_is_named_with_the_reason(tmp_path, content, reason):
    file = tmp_path / "x.jpg"
    file.write_bytes(content)
    for read in (read_image, read_mask, image_shape):
        with pytest.raises(ImageError, match=reason) as caught:
            read(file)
        assert str(file) in str(caught.value)


def test_what_is_no_file_is_refused_with_the_reason(tmp_path):
    put_no_files(tmp_path)
    for name, reason in {**REASONS, "missing.jpg": "no such file", "": "it is a folder, not a file"}.items():
        with pytest.raises(ImageError, match=f": {reason}$"):
            read_image(tmp_path / name)


def test_a_photo_that_may_not_be_opened_is_not_called_damaged(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(photo()), "PNG"))
    monkeypatch.setattr(opening, "open", refusing, raising=False)  # root may open anything
    with pytest.raises(ImageError, match=r"a\.png cannot be opened: Permission denied"):
        read_image(tmp_path / "a.png")


def test_a_name_with_a_line_break_stays_in_one_line(tmp_path):
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "a\nb.jpg")
    assert "\n" not in str(caught.value)


def test_masks_keep_their_values(tmp_path):
    ids = np.array([[0, 1, 2], [20, 7, 255]], np.uint8)
    indexed = Image.fromarray(ids)
    indexed.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    assert indexed.mode == "P"
    colours = photo(2, 3)
    for picture, expected in [
        (indexed, ids),
        (Image.fromarray(ids), ids),
        (Image.fromarray(ids > 1), (ids > 1).astype(np.uint8)),
        (Image.fromarray(ids.astype(np.uint16)), ids),
        (Image.fromarray(colours), colours),
        (Image.fromarray(np.dstack([colours, ids])), colours),
    ]:
        mask = read_mask(encoded(picture, "PNG"))
        np.testing.assert_array_equal(mask, expected)
        assert mask.dtype == np.uint8


def test_a_mask_of_more_than_eight_bits_is_refused():
    with pytest.raises(ImageError, match="values 0 to 300"):
        read_mask(encoded(Image.fromarray(np.array([[0, 300]], np.uint16)), "PNG"))


def test_pictures_are_listed_in_order_without_what_is_hidden(tmp_path):
    for name in ["b.png", "a/z.JPG", "a/.hidden.png", ".git/x.png", "notes.txt", "__MACOSX/a.jpg", "a.jpeg"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in list_images(tmp_path)] == ["a.jpeg", "a/z.JPG", "b.png"]


def test_what_is_listed_can_be_read_and_the_rest_is_named_and_counted_in_one_line(tmp_path, caplog):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg" / "b.jpg").touch()
    put_no_files(tmp_path)
    listing = list_files(tmp_path)
    assert listing.files == [tmp_path / "a.jpg", tmp_path / "folder.jpg" / "b.jpg"]
    assert {path.name: reason for path, reason in listing.left_out.items()} == REASONS
    first = f"the first is {tmp_path / 'circle.jpg'}: it is a link back to itself"
    assert caplog.messages == [f"{tmp_path}: unreadable and left out: 5; {first}"]


def test_a_folder_that_may_not_be_opened_is_left_out_and_named(tmp_path, monkeypatch, caplog):
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.jpg").touch()
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: refusing(path) if path.name == "locked" else scan(path))
    assert list_images(tmp_path) == [tmp_path / "a.jpg"]
    assert caplog.messages[0].endswith(f"the first is {tmp_path / 'locked'}: Permission denied")
    with pytest.raises(DataError, match=r"locked cannot be opened: Permission denied"):
        list_images(tmp_path / "locked")


def test_damaged_pictures_of_any_kind_raise_nothing_but_our_error(tmp_path):
    generator = np.random.default_rng(0)
    files = {kind: encoded(Image.fromarray(photo()), kind) for kind in ("PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM")}
    for kind, data in files.items():
        for _ in range(60):
            damaged = bytearray(data)
            for place in generator.integers(0, min(len(data), 200), 4):
                damaged[place] = generator.integers(256)
            file = Path(tmp_path, f"x.{kind.lower()}")
            file.write_bytes(damaged)
            try:
                image = read_image(file)
            except ImageError:
                continue
            assert image.shape == (*image_shape(file), 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("grey", [False, True])
def test_a_large_picture_is_decoded_in_place_to_the_same_pixels(tmp_path, monkeypatch, kind, grey):
    pixels = photo()[:, :, 0] if grey else photo()
    file = tmp_path / f"x.{kind.lower()}"
    file.write_bytes(encoded(Image.fromarray(pixels), kind, exif=orientation_exif(6) if kind == "JPEG" else b""))
    usual = read_image(file)
    monkeypatch.setattr(decode, "LARGE", 100)
    np.testing.assert_array_equal(read_image(file), usual)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_tiff_is_decoded_to_the_same_pixels(tmp_path, monkeypatch, mode, compression, orientation):
    if (mode, compression) == ("RGBA", "jpeg"):
        pytest.skip("there is no such file")
    file = tmp_path / "x.tif"
    tags = {274: orientation}
    Image.fromarray(photo()).convert(mode).save(file, compression=compression, tiffinfo=tags)
    usual = read_image(file)
    monkeypatch.setattr(decode, "LARGE", 100)
    monkeypatch.setattr(tiff, "PIECE", 1000)
    np.testing.assert_array_equal(read_image(file), usual)


def test_a_large_tiff_with_a_profile_is_brought_to_srgb_as_a_small_one_is(tmp_path, monkeypatch):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(photo()).save(tmp_path / "x.tif", icc_profile=profile)
    usual = read_image(tmp_path / "x.tif")
    monkeypatch.setattr(decode, "LARGE", 100)
    monkeypatch.setattr(tiff.Tiff, "pixels", None)  # Pillow's way
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), usual)


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif"])
def test_the_rows_of_a_large_picture_can_be_given_back(tmp_path, monkeypatch, name):
    Image.fromarray(photo()).save(tmp_path / name)
    monkeypatch.setattr(decode, "LARGE", 100)
    picture = read_image(tmp_path / name)
    picture.resize((1, *picture.shape[1:]))  # a view cannot be
    assert picture.nbytes == 3 * photo().shape[1]


def test_a_large_tiff_that_is_cut_short_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "LARGE", 100)
    Image.fromarray(photo()).save(tmp_path / "x.tif")
    data = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_image(tmp_path / "x.tif")


def test_a_damaged_large_png_is_refused_as_a_small_one_is(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "LARGE", 100)
    data = bytearray(encoded(Image.fromarray(photo()), "PNG"))
    data[len(data) // 2] ^= 255
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        read_image(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="cut short"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "CMYK"])
def test_a_picture_that_is_converted_in_strips_is_the_same(monkeypatch, mode):
    data = encoded(Image.fromarray(photo()).convert(mode), "TIFF")
    usual = read_image(data)
    monkeypatch.setattr(strips, "AT_ONCE", 7 * 60)
    np.testing.assert_array_equal(read_image(data), usual)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_back_gives_what_the_file_stores(orientation):
    data = encoded(Image.fromarray(photo()), "PNG", exif=orientation_exif(orientation))
    found = read_picture(data)
    assert found.orientation == orientation
    np.testing.assert_array_equal(turn_back(found.pixels, orientation), photo())


def test_several_frames_or_pages_are_noticed(real_data):
    several = {"anim.webp", "apng_delay.png", "newtonscradle.gif", "multipage.tiff"}
    for name in [*several, "chelsea.bmp", "sugarshack_mpo.jpg", "hopper.avif", "Abyssinian_34_is_gif.jpg"]:
        assert read_picture(real_data / "odd_images" / name).several == (name in several), name


def test_heic_is_read_where_its_reader_is_installed(tmp_path, monkeypatch):
    """The reader is a stand-in: it shows that it is asked, and for such files only."""
    pixels = photo(4, 6)
    heic = tmp_path / "a.heic"
    heic.write_bytes(b"\0\0\0\x18ftypheic" + bytes(8))
    with pytest.raises(ImageError, match=r"a\.heic: HEIC is not supported: .*simclrseg\[heic\]"):
        read_image(heic)
    accepts = (lambda stream, name: Image.fromarray(pixels), lambda prefix: prefix[4:12] == b"ftypheic")
    reader = SimpleNamespace(register_heif_opener=lambda: Image.OPEN.update(HEIF=accepts))
    monkeypatch.setitem(sys.modules, "pillow_heif", reader)
    monkeypatch.setattr(opening, "READS_HEIC", True)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    np.testing.assert_array_equal(read_image(heic), pixels)
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(pixels), "PNG")), pixels)
