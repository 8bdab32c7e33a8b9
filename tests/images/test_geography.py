"""Where a TIFF lies on the earth, by its tags, whole and damaged."""

from __future__ import annotations

import re

import numpy as np
import pytest

from simclrseg.images.decode import read_picture
from simclrseg.images.opening import turn_back
from tests.images.geotiffs import KEYS, MATRIX, NODATA, SCALE, TIE_POINTS, UTM, geotiff

PIXELS = np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)
CORNER = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_400_000.0)
TURNED = (8.0, 6.0, 0.0, 500_000.0, 6.0, -8.0, 0.0, 5_400_000.0, *[0.0] * 7, 1.0)


def geography(tags=UTM, **options):
    return read_picture(geotiff(PIXELS, tags, **options)).geography


def test_scale_and_tie_point_give_the_corner_of_pixels():
    found = geography()
    assert (found.affine, found.epsg, found.projected, found.doubts) == (CORNER, 32633, True, ())
    assert {tag: tuple(value) for tag, value in found.tags.items()} == UTM
    moved = geography(UTM | {TIE_POINTS: (2.0, 3.0, 0.0, 500_020.0, 5_399_970.0, 0.0)})
    assert moved.affine == CORNER
    assert geography(UTM | {SCALE: (10.0, -10.0, 0.0)}).affine == CORNER  # north is up, whatever the sign


def test_a_transformation_turns_the_grid():
    found = geography({MATRIX: TURNED, KEYS: UTM[KEYS]})
    assert found.affine == (8.0, 6.0, 500_000.0, 6.0, -8.0, 5_400_000.0)


def test_coordinates_of_centres_are_moved_by_half_a_pixel():
    found = geography(UTM | {KEYS: (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 2, 3072, 0, 1, 32633)})
    assert found.affine == (10.0, 0.0, 499_995.0, 0.0, -10.0, 5_400_005.0)


def test_degrees_are_no_lengths():
    found = geography(UTM | {KEYS: (1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326)})
    assert (found.epsg, found.projected, found.system) == (4326, False, "EPSG:4326")
    own = geography(UTM | {KEYS: (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32767)})
    assert own.epsg is None and own.is_placed
    based = geography(UTM | {KEYS: (1, 1, 0, 2, 1024, 0, 1, 1, 2048, 0, 1, 4326)})  # lengths, on that globe
    assert based.epsg is None and based.projected


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("raster", [1, 2])
def test_pixels_that_are_turned_stay_where_they_are(orientation, raster):
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, raster, 3072, 0, 1, 32633)
    picture = read_picture(geotiff(PIXELS, UTM | {KEYS: keys}, orientation=orientation))
    assert picture.orientation == orientation
    stored, turned = picture.geography, picture.geography.turned(orientation, (12, 20))
    rows, columns = np.indices(picture.pixels.shape[:2])
    back = turn_back(np.dstack([rows, columns]).astype(np.uint8), orientation)  # at each stored pixel, its upright one

    def on_earth(affine, row, column):
        a, b, c, d, e, f = affine
        return a * (column + 0.5) + b * (row + 0.5) + c, d * (column + 0.5) + e * (row + 0.5) + f

    for row, column in ((0, 0), (11, 19), (3, 7)):
        upright = [int(value) for value in back[row, column]]
        assert on_earth(turned.affine, *upright) == pytest.approx(on_earth(stored.affine, row, column))
    again = read_picture(geotiff(picture.pixels, turned.tags)).geography
    assert again.affine == pytest.approx(turned.affine) and not again.doubts


def test_tie_points_alone_are_those_of_stored_pixels():
    points = {TIE_POINTS: tuple(float(n) for n in range(18)), KEYS: UTM[KEYS]}
    found = geography(points)
    assert found.affine is None and found.tags.keys() == points.keys()
    turned = found.turned(6, (12, 20))
    assert not turned.is_placed and "--keep-orientation" in turned.doubts[0]


@pytest.mark.parametrize(
    ("tags", "doubt", "affine"),
    [
        ({**UTM, SCALE: (10.0, 10.0)}, r"ModelPixelScale has 2 numbers \(10, 10\), and needs 3", None),
        ({**UTM, SCALE: (0.0, 10.0, 0.0)}, "needs 3 that are not 0", None),
        ({**UTM, SCALE: (float("nan"), 10.0, 0.0)}, "ModelPixelScale holds no numbers", None),
        ({**UTM, TIE_POINTS: (0.0, 0.0, 0.0, 1.0)}, "ModelTiepoint has 4 numbers .* and needs 6 for each", None),
        ({SCALE: UTM[SCALE], KEYS: UTM[KEYS]}, "needs a tie point beside them", None),
        ({MATRIX: (1.0,) * 15}, r"ModelTransformation has 15 numbers \(1, 1, 1, 1, 1, 1, …\), and needs 16", None),
        ({MATRIX: (1.0,) * 16}, "ModelTransformation has 16 numbers .* and needs 16 of a plane", None),
        ({**UTM, MATRIX: TURNED}, "ModelTransformation contradicts its ModelPixelScale and ModelTiepoint", CORNER),
        ({**UTM, KEYS: (1, 1, 0, 9, 1024, 0, 1, 1)}, "GeoKeyDirectory is damaged", CORNER),
        ({**UTM, TIE_POINTS: (0.0, 0.0, 0.0, 1e307, 1.0, 0.0)}, "coordinates are out of all bounds", None),
        ({**UTM, KEYS: (1, 1)}, "GeoKeyDirectory is damaged", CORNER),
        ({**UTM, KEYS: (1, 1, 0, 1, 1026, 34737, 900, 0)}, "GeoKeyDirectory is damaged", CORNER),
        ({**UTM, NODATA: "much"}, "GDAL_NODATA .'much'. is no number", CORNER),
    ],
)
def test_what_is_damaged_or_contradicts_itself_is_named_and_left_out(tags, doubt, affine):
    found = geography(tags)
    assert len(found.doubts) == 1 and re.search(doubt, found.doubts[0]), found.doubts
    assert found.affine == affine and MATRIX not in found.tags


def test_no_tags_are_no_place():
    assert geography({}) is None
    found = geography({NODATA: "0"})
    assert not found.is_placed and found.nodata == 0


def test_a_value_that_stands_for_nothing_is_blank_in_every_band():
    pixels = PIXELS.copy()
    pixels[2, 3] = 7
    pixels[4, 5, 0] = 7
    picture = read_picture(geotiff(pixels, UTM | {NODATA: "7"}))
    assert np.argwhere(picture.blank).tolist() == [[2, 3]]
    turned = read_picture(geotiff(pixels, UTM | {NODATA: "7"}, orientation=6))
    assert np.argwhere(turned.blank).tolist() == [[3, 12 - 1 - 2]]


@pytest.mark.parametrize("value", ["-9999", "256", "1e30", "0.5"])
def test_a_value_that_no_pixel_can_have_stands_for_nothing_anywhere(value):
    picture = read_picture(geotiff(PIXELS, UTM | {NODATA: value}))
    assert picture.blank is None
    np.testing.assert_array_equal(picture.pixels, PIXELS)


def test_what_the_alpha_channel_of_a_map_hides_is_blank_and_that_of_a_photo_is_white():
    pixels = np.dstack([PIXELS, np.full((12, 20), 255, np.uint8)])
    pixels[:, :5, 3] = 0
    kind = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    assert read_picture(geotiff(pixels, **kind)).blank.sum() == 12 * 5
    assert read_picture(geotiff(pixels, {}, **kind)).blank is None
