"""What values of masks mean, over a set: read, or named with the rule that reads them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from simclrseg.errors import DataError
from simclrseg.labels.classes import read_classes
from simclrseg.labels.masks import mask_details
from tests.images.odd import orientation_exif
from tests.images.pngs import grey_png
from tests.images.tiffs import tiff

HEIGHT, WIDTH = 24, 36
Y, X = np.mgrid[:HEIGHT, :WIDTH]
OBJECTS = [(Y - 10 - number) ** 2 + (X - 14 - number) ** 2 < 40 for number in range(4)]
TOP = Y < 2
SOFT = OBJECTS[0] * np.random.default_rng(0).integers(1, 256, (HEIGHT, WIDTH)) / 255
INSTANCES = sum(
    ((place // 5 == Y // 6) & (place % 5 == X // 6) & (Y % 6 > 1) & (X % 6 > 1)) * (place + 1) for place in range(9)
)
BLACK_AND_RED = "{a: [0, 0, 0], b: '#ff0000'}"
BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0)


@dataclass(frozen=True)
class Written:
    """A file that Pillow does not write, saved as its pictures are."""

    content: bytes

    def save(self, path: Path) -> None:
        path.write_bytes(self.content)


def few_bits(values, bits) -> Written:
    return Written(grey_png(np.asarray(values), bits))


def white_is_zero_bits(values) -> Written:
    file = io.BytesIO()
    tifffile.imwrite(file, np.asarray(values, bool))
    return Written(file.getvalue())


def big_endian(values) -> Written:
    return Written(tiff(np.asarray(values, np.uint16)[:, :, None], order=">"))


def white_is_zero(values) -> Written:
    return Written(tiff(np.asarray(values, np.uint16)[:, :, None], photometric=0))


def grey(values) -> Image.Image:
    return Image.fromarray(np.asarray(values, np.uint8))


def deep(values) -> Image.Image:
    return Image.fromarray(np.asarray(values, np.uint16))


def ints(values) -> Image.Image:
    return Image.fromarray(np.asarray(values, np.int32))


def floats(values) -> Image.Image:
    return Image.fromarray(np.asarray(values, np.float32))


def indexed(values, *colours) -> Image.Image:
    picture = grey(values)
    picture.putpalette([level for colour in colours for level in colour])
    return picture


def layered(values, alpha) -> Image.Image:
    return Image.fromarray(np.dstack([*[np.asarray(values, np.uint8)] * 3, np.asarray(alpha, np.uint8)]))


def coloured(red, green=0, blue=0) -> Image.Image:
    return Image.fromarray(
        np.dstack([np.asarray(band) + np.zeros_like(Y) for band in (red, green, blue)]).astype(np.uint8)
    )


def look(folder, masks, *, suffix=".png", classes="", rules=None, orientations=(), **options):
    """Save masks and a photo for each, look at them, and give the class ids of each and what is said."""
    images, files = [], []
    for number, mask in enumerate(masks):
        orientation = orientations[number] if orientations else 1
        images.append(folder / f"{number}.jpg")
        Image.new("RGB", (WIDTH, HEIGHT)).save(images[-1], exif=orientation_exif(orientation))
        files.append(folder / f"{number}_mask{suffix}")
        mask.save(files[-1], **options)
    named = read_classes(classes) if classes else None
    details, lines = mask_details(images, files, classes=named, class_count=None, rules=rules)
    return [details["decode"](file) for file in files], "\n".join(lines)


@pytest.mark.parametrize(
    ("masks", "options"),
    [
        ([Image.fromarray(OBJECTS[0]), Image.fromarray(OBJECTS[1])], {}),
        ([Image.fromarray(OBJECTS[0]), grey(OBJECTS[1] * 255)], {}),
        ([Image.fromarray(OBJECTS[0]), grey(OBJECTS[1])], {}),
        ([grey(OBJECTS[0] * 255), deep(OBJECTS[1] * 65535)], {}),
        ([floats(OBJECTS[0]), floats(OBJECTS[1])], {"suffix": ".tif"}),
        ([floats(OBJECTS[0] * 255), floats(OBJECTS[1] * 255)], {"suffix": ".tif"}),
        ([floats(OBJECTS[0] * 0.9), floats(OBJECTS[1] * 0.8)], {"suffix": ".tif", "rules": {"threshold": 0.5}}),
        ([indexed(OBJECTS[0], BLACK, WHITE), indexed(~OBJECTS[1], WHITE, BLACK)], {}),
        ([indexed(OBJECTS[0], BLACK, WHITE), indexed(~OBJECTS[1], WHITE, BLACK)], {"bits": 1}),
        ([indexed(OBJECTS[0], BLACK, WHITE), grey(OBJECTS[1] * 255)], {}),
        ([indexed(OBJECTS[0], BLACK, RED), indexed(OBJECTS[1], BLACK, RED)], {}),
        (
            [indexed(OBJECTS[0], BLACK, RED), indexed(~OBJECTS[1], RED, BLACK)],
            {"classes": BLACK_AND_RED},
        ),
        ([indexed(OBJECTS[0], BLACK, RED), coloured(OBJECTS[1] * 255)], {"classes": BLACK_AND_RED}),
        ([grey(OBJECTS[0] * 255), grey(OBJECTS[1] * 255)], {"classes": "{a: '#ffffff', b: '#000000'}", "flip": True}),
        ([grey(OBJECTS[0]), grey(OBJECTS[1])], {"classes": BLACK_AND_RED}),
        ([grey(255 - OBJECTS[0] * 200), grey(255 - OBJECTS[1] * 200)], {"rules": {"threshold": 128, "inverted": None}}),
        ([layered(OBJECTS[0] * 255, OBJECTS[0] * 255), layered(OBJECTS[1] * 255, OBJECTS[1] * 255)], {}),
        ([layered(OBJECTS[0] * 255, 200 + 0 * Y), layered(OBJECTS[1] * 255, 200 + 0 * Y)], {}),
        ([layered(0 * Y, 255 * OBJECTS[0]), layered(9 * Y, 255 * OBJECTS[1])], {"rules": {"alpha": None}}),
        ([layered(0 * Y, 255 * ~OBJECTS[0])] * 2, {"rules": {"alpha": None, "inverted": None}, "same": True}),
        ([layered(0 * Y, 9 + 240 * OBJECTS[n]) for n in (0, 1)], {"rules": {"alpha": None, "threshold": 128}}),
        ([grey(OBJECTS[n] * 255) for n in (0, 1)], {"suffix": ".jpg", "quality": 60, "rules": {"threshold": 128}}),
        ([grey(OBJECTS[n] * 7) for n in (0, 1)], {"rules": {"foreground": None}}),
        ([big_endian(OBJECTS[n] * 65535) for n in (0, 1)], {"suffix": ".tif"}),
        ([big_endian(OBJECTS[0]), white_is_zero(OBJECTS[1])], {"suffix": ".tif"}),
        ([few_bits(OBJECTS[0], 2), few_bits(OBJECTS[1], 2)], {}),
        ([few_bits(OBJECTS[0] * 3, 2), few_bits(OBJECTS[1] * 15, 4)], {}),
        ([few_bits(OBJECTS[0] * 3, 2), few_bits(OBJECTS[1] * 2, 2)], {"rules": {"foreground": None}}),
        ([few_bits(OBJECTS[n], 4) for n in (0, 1)], {"classes": "{a: '#000000', b: '#111111'}"}),
        ([few_bits(OBJECTS[n], 4) for n in (0, 1)], {"classes": BLACK_AND_RED}),
        ([indexed(~OBJECTS[n], RED, BLACK) for n in (0, 1)], {}),
        ([indexed(OBJECTS[0], BLACK, RED), indexed(~OBJECTS[1], RED, BLACK)], {}),
        ([indexed(~OBJECTS[0], GREEN, BLACK), grey(0 * Y), indexed(~OBJECTS[2], GREEN, BLACK)], {"empty": 1}),
        ([indexed(~OBJECTS[n], BLACK, RED) for n in (0, 1)], {"classes": "{a: , b: }", "flip": True}),
        ([grey(np.where(OBJECTS[n], 255, X == 0)) for n in (0, 1)], {"rules": {"threshold": 128}}),
        ([coloured(OBJECTS[n] * 7, OBJECTS[n] * X) for n in (0, 1)], {"rules": {"foreground": None}}),
        ([indexed(OBJECTS[n] * 9, BLACK, *[RED] * 9) for n in (0, 1)], {"rules": {"foreground": None}}),
    ],
)
def test_masks_of_two_classes_in_any_form_say_the_same(tmp_path, masks, options):
    flip, same, empty = options.pop("flip", False), options.pop("same", False), options.pop("empty", None)
    masks, _ = look(tmp_path, masks, **options)
    for number, mask in enumerate(masks):
        drawn = OBJECTS[0 if same else number] & (number != empty)
        np.testing.assert_array_equal(mask, drawn != flip)


@pytest.mark.parametrize(
    ("file", "values", "least"),
    [
        ("8.png", np.uint8(200), 200),
        ("16.png", np.uint16(40_000), 39_000),
        ("16.tif", np.uint16(900), 900),
        ("32.tif", np.int32(100_000), 99_000),
        ("float.tif", np.float32(0.7), 0.68),
        ("float_of_sixteen.tif", np.float32(40_000), 39_000),
        ("colours.png", np.uint16([40_000, 40_000, 40_000]), 39_000),
        ("colours.tif", np.uint16([40_000, 40_000, 40_000]), 39_000),
    ],
)
def test_a_threshold_counts_in_the_file_s_own_values(tmp_path, file, values, least):
    places = OBJECTS[0][..., None] if values.ndim else OBJECTS[0]
    below = np.asarray(values * 0.95).astype(values.dtype)  # near, and no foreground
    cv2.imwrite(str(tmp_path / file), np.where(places, values, below))
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "photo.jpg")
    arguments = [tmp_path / "photo.jpg"], [tmp_path / file]
    details, said = mask_details(*arguments, classes=None, class_count=None, rules={"threshold": float(least)})
    np.testing.assert_array_equal(details["decode"](tmp_path / file), OBJECTS[0])
    assert f"{least:g} and more is foreground" in "\n".join(said)


@pytest.mark.parametrize(
    ("masks", "classes"),
    [
        ([grey(np.where(TOP, 255, found)) for found in OBJECTS], ""),
        ([grey(np.where(TOP, 255, found)) for found in OBJECTS], "{background: , cat: , ignore: }"),
        ([grey(np.where(TOP, 255, found)) for found in OBJECTS], "{background: , cat: }"),
        ([deep(np.where(TOP, 65535, found)) for found in OBJECTS], ""),
        (
            [grey(np.where(TOP, 200, found * 90)) for found in OBJECTS],
            "{a: '#000000', b: '#5a5a5a', ignore: [200, 200, 200]}",
        ),
    ],
)
def test_what_is_ignored_is_255(tmp_path, masks, classes):
    masks, _ = look(tmp_path, masks, classes=classes)
    for mask, found in zip(masks, OBJECTS, strict=True):
        np.testing.assert_array_equal(mask, np.where(TOP, 255, found))


@pytest.mark.parametrize("number", [1, 100, 255])
def test_numbers_of_classes_are_those_of_masks_and_one_bit_is_1_or_white(tmp_path, number):
    bits = [] if number == 100 else [Image.fromarray(OBJECTS[0])]
    masks, lines = look(tmp_path, [grey(OBJECTS[0] * number), *bits], classes=f"{{ground: 0, thing: {number}}}")
    assert [mask.tolist() for mask in masks] == [OBJECTS[0].astype(int).tolist()] * len(masks)
    assert "ignored" not in lines


def test_numbers_of_classes_are_indices_where_masks_have_palettes(tmp_path):
    drawn = indexed(OBJECTS[0] * 2, BLACK, WHITE, RED)
    (mask,), lines = look(tmp_path, [drawn], classes="{ground: 0, thing: 2}")
    assert mask.tolist() == OBJECTS[0].astype(int).tolist()
    assert "masks: 2 classes by number (ground, thing)" in lines


def test_white_is_not_ignored_where_nothing_else_is_there(tmp_path):
    with pytest.raises(DataError, match=r"has values 0, 255, and no class has the number 255: give it to one, as `thi"):
        look(tmp_path, [grey(OBJECTS[0] * 255)], classes="{ground: 0, thing: 1}")
    with pytest.raises(DataError, match="has values that no class has: 255"):
        look(tmp_path, [grey(OBJECTS[0] * 255)], classes="{ground: 0, thing: 1, ignore: 3}")
    masks, lines = look(tmp_path, [grey(np.where(OBJECTS[0], 1, OBJECTS[1] * 255))], classes="{ground: 0, thing: 1}")
    assert set(np.unique(masks[0])) == {0, 1, 255} and "ignored: " in lines


def test_what_is_ignored_stays_so_where_the_two_classes_are_turned_round(tmp_path):
    masks, _ = look(tmp_path, [grey(np.where(TOP, 255, found)) for found in OBJECTS], rules={"inverted": None})
    for mask, found in zip(masks, OBJECTS, strict=True):
        np.testing.assert_array_equal(mask, np.where(TOP, 255, ~found))


def test_an_ignored_part_that_is_more_than_the_rest_is_said(tmp_path):
    masks = [grey(np.where(OBJECTS[0], 255, found & (Y > 9))) for found in OBJECTS[1:]]
    assert "255 is ignored; it has 3.7 times the pixels of all other ids but 0" in look(tmp_path, masks)[1]


def test_lines_drawn_in_a_few_places_are_classes_and_the_rest_is_ignored(tmp_path):
    drawn = np.select([(row == Y) & (X < 10) for row in (5, 9, 14)], [0, 1, 2], 255)
    masks, said = look(tmp_path, [grey(drawn), grey(drawn[::-1])])
    np.testing.assert_array_equal(masks[0], drawn)
    assert "255 is ignored; it has 41.7 times the pixels of all other ids but 0" in said
    assert f"ignored: {100 * (drawn == 255).mean():.2g} % of all pixels, in 2 of 2 masks" in said


@pytest.mark.parametrize("kind", ["RGB", "P", "L"])
def test_how_much_is_ignored_is_said_of_colours_too(tmp_path, kind):
    top, plain = (Image.fromarray(np.where(where, 200, 0).astype(np.uint8)) for where in (TOP, TOP & False))
    masks = [Image.merge("RGB", [one] * 3).convert(kind) for one in (top, plain)]
    if kind == "P":
        masks = [one.convert("P", palette=Image.Palette.ADAPTIVE) for one in (top, plain)]
    _, said = look(tmp_path, masks, classes="{a: '#000000', b: '#5a5a5a', ignore: [200, 200, 200]}")
    assert f"ignored: {50 * TOP.mean():.2g} % of all pixels, in 1 of 2 masks" in said


def test_how_much_is_ignored_is_said_of_colours_that_are_no_greys(tmp_path):
    classes = "{a: '#000000', b: '#5a5a5a', ignore: [200, 0, 0]}"
    _, said = look(tmp_path, [coloured(TOP * 200), coloured(0 * Y)], classes=classes)
    assert f"ignored: {50 * TOP.mean():.2g} % of all pixels, in 1 of 2 masks" in said


def test_of_masks_without_ignored_pixels_nothing_is_said(tmp_path):
    assert "ignored" not in look(tmp_path, [grey(found) for found in OBJECTS])[1]


@pytest.mark.parametrize("bits", [2, 4])
def test_ids_of_few_bits_are_ids(tmp_path, bits):
    drawn = [OBJECTS[number] + 2 * TOP for number in (0, 1)]
    for classes in ("", "{a: , b: , c: }", "{a: '#000000', b: '#ff0000', c: '#00ff00'}"):
        masks, _ = look(tmp_path, [few_bits(n, bits) for n in drawn], classes=classes)
        for mask, expected in zip(masks, drawn, strict=True):
            np.testing.assert_array_equal(mask, expected)
    shown = "{a: '#555555', b: '#ffffff', c: '#000000'}"
    masks, _ = look(tmp_path, [few_bits(n, 2) for n in drawn], classes=shown.replace("ff", "aa"))
    np.testing.assert_array_equal(masks[1], np.array([2, 0, 1])[drawn[1]])


def test_an_inverting_table_of_any_depth_is_said(tmp_path):
    masks = [white_is_zero(OBJECTS[0] * 65535), big_endian(OBJECTS[1] * 65535)]
    assert "1 of 2 masks have an inverting table (0_mask.tif)" in look(tmp_path, masks, suffix=".tif")[1]


def test_a_palette_that_shows_numbers_the_other_way_round_is_an_inverting_table(tmp_path):
    drawn = Image.fromarray(np.uint8(OBJECTS[0] * 255)).convert("P")
    drawn.putpalette(np.arange(255, -1, -1, dtype=np.uint8).repeat(3).tobytes())
    masks, lines = look(tmp_path, [drawn])
    np.testing.assert_array_equal(masks[0], OBJECTS[0])
    assert "1 of 1 masks have an inverting table (0_mask" in lines


def test_bits_that_show_0_as_white_are_read_as_they_are_shown_which_is_said_with_the_way_to_turn_them(tmp_path):
    drawn = [white_is_zero_bits(OBJECTS[0]), white_is_zero_bits(OBJECTS[1])]
    masks, lines = look(tmp_path, drawn, suffix=".tif")
    assert "2 of 2 masks have one bit a pixel and an inverting table (0_mask.tif, 1_mask.tif)" in lines
    assert "pass --masks inverted" in lines and "as they are stored" not in lines
    turned, quiet = look(tmp_path, drawn, suffix=".tif", rules={"inverted": None})
    for read, other, expected in zip(masks, turned, OBJECTS[:2], strict=True):
        np.testing.assert_array_equal(read, ~expected)
        np.testing.assert_array_equal(other, expected)
    assert "inverting" not in quiet
    _, mixed = look(tmp_path, [drawn[0], big_endian(OBJECTS[1])], suffix=".tif")
    assert "1 of 2 masks" in mixed and "save all masks in one way, as PNG" in mixed


def test_classes_of_a_file_each_lie_over_one_another_by_their_size(tmp_path):
    inner, outer = (Y - 11) ** 2 + (X - 15) ** 2 < 9, OBJECTS[0]
    beyond = inner | (Y == 11) & (X > 12) & (X < 32)
    for names, small in (("ab", beyond), ("ba", beyond), ("ba", inner)):
        files = {}
        for name, drawn in zip(names, (np.where(TOP, 255, small), outer), strict=True):
            files[tmp_path / f"{name}.png"] = name
            grey(np.where(drawn == 255, 255, drawn * 1)).save(tmp_path / f"{name}.png")
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "photo.jpg")
        masks = [tuple(sorted(files))]
        details, lines = mask_details([tmp_path / "photo.jpg"], masks, classes=None, class_count=None, parts=files)
        ids = {name: details["classes"].index(name) for name in names}
        expected = np.where(small, ids[names[0]], np.where(outer, ids[names[1]], np.where(TOP, 255, 0)))
        np.testing.assert_array_equal(details["decode"](masks[0]), expected)
        assert "a file for each class: 2 (a, b); smaller ones lie on top" in lines


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_what_one_file_draws_is_drawn_though_another_ignores_it(tmp_path, names):
    objects = (OBJECTS[0], np.where(OBJECTS[0] | TOP, 255, Y > 20))
    files = {tmp_path / f"{name}.png": name for name in names}
    for file, drawn in zip(files, objects, strict=True):
        grey(drawn).save(file)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "photo.jpg")
    masks = [tuple(sorted(files))]
    details, _ = mask_details([tmp_path / "photo.jpg"], masks, classes=None, class_count=None, parts=files)
    first, second = (details["classes"].index(name) for name in names)
    expected = np.select([OBJECTS[0], TOP, Y > 20], [first, 255, second])
    np.testing.assert_array_equal(details["decode"](masks[0]), expected)


def test_masks_that_are_turned_are_read_in_another_way_than_the_same_files_that_are_not(tmp_path):
    grey(OBJECTS[0]).save(tmp_path / "mask.png")
    readings = set()
    for orientation in (1, 6):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "photo.jpg", exif=orientation_exif(orientation))
        files = [tmp_path / "photo.jpg"], [tmp_path / "mask.png"]
        readings.add(mask_details(*files, classes=None, class_count=None)[0]["mask_reading"])
    assert len(readings) == 2


def test_255_beside_0_alone_is_ignored_where_the_set_says_so_and_said_where_the_others_show_it(tmp_path):
    alone = grey(np.where(TOP, 255, 0))
    masks, _ = look(tmp_path, [alone, grey(OBJECTS[0])], classes="{background: , cat: , ignore: }")
    assert np.unique(masks[0]).tolist() == [0, 255]
    masks, said = look(tmp_path, [*(grey(np.where(TOP, 255, found)) for found in OBJECTS), alone])
    assert np.unique(masks[4]).tolist() == [0, 255]
    assert "255 is ignored; in 1 masks it stands beside one id (4_mask.png)" in said


@pytest.mark.parametrize(
    ("masks", "options", "message"),
    [
        ([grey(OBJECTS[0]), grey(OBJECTS[1] * 255)], {}, "1_mask.*|0_mask.*--masks foreground"),
        ([grey(np.where(TOP, 255, 1)), grey(OBJECTS[0])], {}, r"0_mask\.png has values 1, 255"),
        (
            [grey(np.where(OBJECTS[0], 255, 0)), *[grey(np.where(TOP, 255, 1))] * 2],
            {},
            r"1_mask\.png has values 1, 255 and in no mask 255 stands beside two ids or more, so that it may be the "
            "object or be ignored: pass --masks threshold:128 if 255 is the object, or name `ignore` in a -",
        ),
        (
            [grey(np.where(TOP, 255, OBJECTS[0])), grey(OBJECTS[1] * 255)],
            {},
            r"1_mask\.png has values 0, 255 where 1 of 2 masks hold ids.*--masks foreground",
        ),
        ([grey(OBJECTS[0] * 255)], {"classes": "{a: , b: , c: }"}, "nothing says that 255 is ignored"),
        ([grey(OBJECTS[0] * 128)], {}, r"has values 0, 128 .*--masks foreground"),
        ([deep(OBJECTS[0] * 256)], {}, r"has values 0, 256 .*--masks foreground"),
        ([grey(OBJECTS[0] * 255)], {"suffix": ".jpg"}, r"lossy file, .*--masks threshold:128"),
        ([coloured(OBJECTS[0] * 255)], {"suffix": ".jpg", "classes": BLACK_AND_RED}, "lossy file"),
        ([grey(OBJECTS[0] * 255)], {"suffix": ".tif", "compression": "jpeg"}, "lossy file"),
        ([grey(OBJECTS[0] * 9).convert("RGB")], {"suffix": ".webp", "quality": 40}, "lossy file"),
        ([grey(OBJECTS[0])], {"suffix": ".jpg", "rules": {"foreground": None}}, "lossy file"),
        ([floats(SOFT)], {"suffix": ".tif"}, r"--masks threshold:0\.5"),
        ([deep(SOFT * 65534)], {}, r"--masks threshold:32768"),
        ([floats(np.where(TOP, np.nan, 0))], {"suffix": ".tif"}, "not finite"),
        ([indexed(OBJECTS[0], BLACK, RED), indexed(OBJECTS[1], BLACK, GREEN)], {}, r"index 1 is \[0, 255, 0\]"),
        ([indexed(OBJECTS[0], BLACK, RED), indexed(2 * OBJECTS[1], BLACK, GREEN, RED)], {}, "is index 2"),
        ([indexed(OBJECTS[0], BLACK, GREEN)], {"classes": BLACK_AND_RED}, r"\[0, 255, 0\]; .*indices are"),
        ([layered(0 * Y, 255 * OBJECTS[0])], {}, "hides 86% of its pixels by its alpha channel.*--masks alpha"),
        ([layered(255 + 0 * Y, 255 * OBJECTS[0])], {}, "--masks alpha"),
        ([layered(0 * Y, SOFT * 255)], {"rules": {"alpha": None}}, r"--masks alpha\+threshold:128"),
        ([grey(OBJECTS[0])], {"rules": {"alpha": None}}, "0_mask.png has no alpha channel"),
        ([grey(OBJECTS[0] * 1 + OBJECTS[1])], {"rules": {"inverted": None}}, "is for two classes, and these are 3"),
        ([coloured(OBJECTS[0] * 255)], {"rules": {"threshold": 9}}, "in colour, which has no threshold"),
        ([deep(np.where(INSTANCES, INSTANCES + 400, 0))], {}, "--masks foreground if the numbers count objects"),
        ([grey(INSTANCES * 5)], {}, "--masks foreground if the numbers count objects"),
        ([grey(OBJECTS[0])], {"rules": {"threshold": 200}}, "hold 0 only: there is nothing to learn"),
        (
            [grey(np.where(OBJECTS[0], 255, (Y == 0) & (X < 3)))],
            {},
            r"255, which is ignored, has 4\d times the pixels of all other ids but 0: pass --masks threshold:128 if "
            r"255 is the object, or name `ignore` in a --classes-file",
        ),
        ([layered(INSTANCES, INSTANCES * 20)], {"rules": {"alpha": None}}, r"--masks alpha\+foreground if the num"),
        ([grey(1 + OBJECTS[0] + OBJECTS[1])], {}, "0 occurs in no mask: count class ids from 0, or give the number"),
        ([ints(np.where(TOP, -1, INSTANCES))], {"suffix": ".tif"}, "8-bit PNG, with 255 for what is ignored$"),
        ([grey(INSTANCES)], {"classes": "{a: , b: , c: }"}, r"has values 3, .*: add the others, .* ignored\)$"),
        ([grey(INSTANCES)], {"classes": "{a: , b: }"}, r"ignored\); or pass --masks foreground if the num"),
        ([coloured(OBJECTS[0] * 9), coloured(0)], {}, r"0_mask\.png is an RGB mask .*give the colours of the classes"),
        ([coloured(OBJECTS[0] * 9), grey(OBJECTS[1])], {}, "0_mask.png is an RGB .* but .*1_mask.png holds class ids"),
        ([indexed(~OBJECTS[0], RED, BLACK), grey(OBJECTS[1])], {}, r"index 0 is \[255, 0, 0\] in it, and other masks"),
        (
            [big_endian(OBJECTS[0] * 65535), white_is_zero(~OBJECTS[1] * 65535)],
            {"suffix": ".tif"},
            r"1 of 2 masks have an inverting table \(1_mask\.tif\), and as they are stored 86% of them is foreground, "
            "of the others 14%: save all masks in one way",
        ),
        ([grey(OBJECTS[0])], {"suffix": ".jp2"}, "is a JPEG 2000 file, which does not say .*: save masks as PNG$"),
    ],
)  # fmt: skip
def test_what_says_nothing_for_certain_is_named(tmp_path, masks, options, message):
    with pytest.raises(DataError, match=message) as caught:
        look(tmp_path, masks, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("orientations", "turns", "rules", "said"),
    [
        ((6, 3, 1), (0, 0, 0), None, "on the photos as they are stored, and turned with them (1 fit no other way)"),
        ((6, 3, 1), (-1, 0, 0), None, "on the photos as they are seen (1 fit no other way)"),
        ((6, 6, 1), (-1, 0, 0), None, "as they are stored where that alone fits (2 fit no other way)"),
        ((3, 1, 1), (0, 0, 0), {"stored": None}, "(--masks stored)"),
        ((3, 1, 1), (0, 0, 0), {"upright": None}, "(--masks upright)"),
    ],
)
def test_masks_are_turned_as_their_photos_are_where_the_set_shows_it(tmp_path, orientations, turns, rules, said):
    drawn = [np.rot90(found, turn) for found, turn in zip(OBJECTS, turns, strict=False)]
    masks, lines = look(tmp_path, [grey(found * 255) for found in drawn], orientations=orientations, rules=rules)
    assert said in lines
    stored = "as they are stored" in lines or "stored" in (rules or {})
    quarter = {1: 0, 3: 2, 6: -1}
    for mask, found, turn, orientation in zip(masks, drawn, turns, orientations, strict=True):
        expected = np.rot90(found, quarter[orientation]) if stored and not turn else found
        np.testing.assert_array_equal(mask, expected)


def test_an_orientation_of_which_the_set_says_this_and_that_is_asked_for(tmp_path):
    masks = [grey(np.rot90(OBJECTS[0], -1) * 255), grey(OBJECTS[1] * 255), grey(OBJECTS[2] * 255)]
    with pytest.raises(DataError, match="--masks upright"):
        look(tmp_path, masks, orientations=(6, 6, 3))
    with pytest.raises(DataError, match="does not have the size of its photo as it is stored"):
        look(tmp_path, masks, orientations=(6, 6, 3), rules={"stored": None})


@pytest.mark.parametrize("share", ["few", "most"])
def test_a_foreground_that_is_most_of_the_masks_is_asked_about(tmp_path, share):
    masks = [grey(255 * (TOP if share == "few" else ~TOP)) for _ in range(2)]
    assert ("pass --masks inverted" in look(tmp_path, masks)[1]) == (share == "most")
    assert ("leave inverted out" in look(tmp_path, masks, rules={"inverted": None})[1]) == (share == "few")


def test_objects_with_numbers_are_told_from_classes(tmp_path):
    assert "pass --masks foreground" in look(tmp_path, [grey(INSTANCES)] * 2)[1]
    in_pieces = np.where(INSTANCES, INSTANCES % 3 + 1, 0)
    assert "--masks foreground" not in look(tmp_path, [grey(in_pieces)] * 2)[1]
    named = "{background: , " + "".join(f"c{number}: , " for number in range(9)) + "}"
    assert "--masks foreground" not in look(tmp_path, [grey(INSTANCES)] * 2, classes=named)[1]


def test_colours_are_looked_up_in_a_label_map_of_cvat(tmp_path):
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\ncat:255,0,0::\nbackground:0,0,0::\n")
    masks = [coloured(OBJECTS[0] * 255), indexed(~OBJECTS[1], RED, BLACK)]
    found, said = look(tmp_path, masks, classes=str(tmp_path / "labelmap.txt"))
    assert "2 classes by colour (background, cat)" in said
    np.testing.assert_array_equal(found, OBJECTS[:2])


def test_black_at_another_index_than_the_background_s_is_said(tmp_path):
    ids = OBJECTS[0] * 1 + OBJECTS[1]
    for palette, said in (((RED, BLACK, GREEN), True), ((BLACK, RED, GREEN), False), ((RED, GREEN, WHITE), False)):
        lines = look(tmp_path, [indexed(ids, *palette)])[1]
        assert ("index 1 is black and index 0 is [255, 0, 0], which counts as the background" in lines) == said


def test_a_mask_that_changed_since_is_named(tmp_path):
    images, file = [tmp_path / "0.jpg"], tmp_path / "0.png"
    Image.new("RGB", (WIDTH, HEIGHT)).save(images[0])
    grey(OBJECTS[0]).save(file)
    read = partial(mask_details(images, [file], classes=None, class_count=None)[0]["decode"], file)
    grey(OBJECTS[0] * 3).save(file)
    with pytest.raises(DataError, match=r"0\.png has values 3, which no class has"):
        read()
    coloured(OBJECTS[0] * 3).save(file)
    with pytest.raises(DataError, match=r"0\.png has changed"):
        read()
