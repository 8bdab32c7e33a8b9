"""Names of bands, and floating-point bands as numbers of 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simclrseg.errors import DataError, ImageError
from simclrseg.images.bands import bands_beside, common_names, parsed_bands
from simclrseg.images.colours import stretch, viewable
from simclrseg.images.decode import floating_ranges, image_shape, read_image, read_scene, stored_bands
from simclrseg.images.depth import coarse_bands, common_range, reflectance_range
from tests.images.geotiffs import METADATA, NODATA, UTM, geotiff

RNG = np.random.default_rng(0)


def floats(bands: int = 4) -> np.ndarray:
    return (RNG.random((9, 14, bands)) * 0.5).astype(np.float32)


@pytest.mark.parametrize(
    ("names", "common"),
    [
        (["B02", "B03", "B04", "B08"], ("blue", "green", "red", "nir")),
        (["Red", "GREEN ", "b", "Near Infrared"], ("red", "green", "blue", "nir")),
        (["S2_B04 (665 nm)", "SR_B3", "B2, blue"], ("red", "green", "blue")),
        (["B1", "B5", "B8", "B8A", "B12"], ("coastal", "rededge071", "nir", "nir08", "swir22")),
        (["B2", "B5", "B10"], ("blue", "b5", "cirrus")),
        (["4", "Band 3", "band_02"], ("band4", "band3", "band2")),
        (["VV", "VH", "ndvi"], ("vv", "vh", "ndvi")),
    ],
)
def test_names_of_satellites_become_common_ones(names, common):
    assert common_names(names) == common


@pytest.mark.parametrize("text", ["", "B04,,B02", "B04,red", "x" * 200])
def test_lists_of_bands_that_cannot_be_meant_are_refused(text):
    with pytest.raises(ValueError, match=r"no list of names|names a band twice"):
        parsed_bands(text)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"names": ["B04", "B03", "B02", "B08"]}, ("red", "green", "blue", "nir")),
        ({"names": ["B04", "", "a &amp;amp; b", "B08"]}, ("red", "band2", "a & b", "nir")),
        ({"names": ["B04", "B04", "B02", "B08"]}, ("band1", "band2", "band3", "band4")),
        ({"description": '<OME><Channel Name="B8A"/><Channel Name="B2"/><Channel Name="x"/><Channel Name="y"/></OME>'},
         ("nir08", "blue", "x", "y")),
        ({"description": '{"bands": ["nir", "red", "green", "blue"]}'}, ("nir", "red", "green", "blue")),
        ({"description": '{"bands": ["nir", 7]}'}, ("band1", "band2", "band3", "band4")),
        ({"description": "{" * 5000}, ("band1", "band2", "band3", "band4")),
        ({"photometric": "rgb"}, ("red", "green", "blue", "band4")),
        ({}, ("band1", "band2", "band3", "band4")),
    ],
)  # fmt: skip
def test_bands_have_the_names_that_tags_give_them(options, names):
    assert read_scene(geotiff(np.zeros((4, 5, 4), np.uint16), {}, **options)).bands == names


def test_colours_that_gdal_tells_of_bands_are_their_names():
    kinds = enumerate(["Blue", "Green", "Red", "Undefined"])
    items = "".join(f'<Item name="COLORINTERP" sample="{n}" role="colorinterp">{kind}</Item>' for n, kind in kinds)
    content = geotiff(np.zeros((4, 5, 4), np.uint16), {METADATA: f"<GDALMetadata>{items}</GDALMetadata>"})
    assert read_scene(content).bands == ("blue", "green", "red", "band4")


def test_a_fourth_band_with_another_name_is_not_transparency():
    kind = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    pixels = np.zeros((4, 5, 4), np.uint8)
    assert stored_bands(geotiff(pixels, {}, names=["red", "green", "blue", "nir"], **kind)) == (4, 8)
    assert stored_bands(geotiff(pixels, {}, names=["red", "green", "blue", "alpha"], **kind)) is None


def test_a_file_beside_images_or_above_names_their_bands(tmp_path: Path):
    inner = tmp_path / "set" / "images"
    inner.mkdir(parents=True)
    assert bands_beside(inner) == ()
    (tmp_path / "set" / "bands.yaml").write_text("bands: [B02, B03, B04, B08]\n")
    assert bands_beside(inner) == ("blue", "green", "red", "nir")
    (inner / "bands.yaml").write_text("[vv, vh]")
    assert bands_beside(inner) == ("vv", "vh")
    for text in ("bands: 4", "bands: [vv, vv]", "{", "bands: []"):
        (inner / "bands.yaml").write_text(text)
        with pytest.raises(DataError, match=r"bands\.yaml: .*write `bands: \[B02, B03") as caught:
            bands_beside(inner)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"byteorder": ">"},
        {"tile": (16, 16), "compression": "zlib"},
        {"planarconfig": "separate", "rowsperstrip": 4},
        {"bigtiff": True},
    ],
)
def test_reflectances_become_ten_thousandths(dtype, layout):
    pixels = floats().astype(dtype)
    options = dict(layout)
    order = options.pop("byteorder", "<")
    if options.get("planarconfig") == "separate":
        content = geotiff(np.moveaxis(pixels, 2, 0).copy(), **options)
    else:
        content = geotiff(pixels.astype(pixels.dtype.newbyteorder(order)), **options)
    scene = read_scene(content)
    assert scene.pixels.dtype == np.uint16 and scene.reach == (0, 1) and scene.blank is None
    np.testing.assert_allclose(scene.pixels, pixels * 10_000, atol=0.51)
    names, spreads = floating_ranges(content)
    assert stored_bands(content) == (4, 16) and names == scene.bands
    assert spreads == [(band.min(), band.max()) for band in np.moveaxis(pixels, 2, 0)]
    assert image_shape(content) == (9, 14)


def test_the_range_of_training_holds_and_what_lies_beyond_is_cut_off():
    pixels = floats()
    pixels[0, 0] = -3, 7, 0.25, 0.5
    scene = read_scene(geotiff(pixels), reach=(0, 0.5))
    assert scene.pixels[0, 0].tolist() == [0, 10_000, 5_000, 10_000] and scene.reach == (0, 0.5)


@pytest.mark.parametrize(
    ("low", "high", "reach"),
    [(0, 0.4, (0, 1)), (-0.01, 1.6, (0, 1)), (0, 3500, (0, 10_000)), (-20, 16_000, (0, 10_000)), (-30, 5, (-30, 5)),
     (271, 310, (271, 310)), (5, 5, (5, 6))],
)  # fmt: skip
def test_the_likely_range_is_that_of_reflectances_or_what_was_found(low, high, reach):
    assert reflectance_range(low, high) == reach


REFLECTANCES, COUNTS, HEIGHTS = (0, 0.5), (0, 3500), (20, 400)


@pytest.mark.parametrize(
    ("spreads", "taken", "reach", "coarse"),
    [
        ([REFLECTANCES, REFLECTANCES], [0, 1], (0, 1), {}),
        ([REFLECTANCES, COUNTS], [0], (0, 1), {}),
        ([REFLECTANCES, COUNTS], [1], (0, 10_000), {}),
        ([REFLECTANCES, COUNTS], [0, 1], (0, 10_000), {0: 0}),  # nothing is left of the first
        ([(0, 90), COUNTS], [0, 1], (0, 10_000), {}),  # dark, which it may be
        ([REFLECTANCES, HEIGHTS], [0], (0, 1), {}),
        ([REFLECTANCES, HEIGHTS], [1], HEIGHTS, {}),
        ([REFLECTANCES, HEIGHTS], [0, 1], (0, 400), {0: 12}),
    ],
)
def test_bands_of_several_kinds_share_the_range_of_those_that_are_taken(spreads, taken, reach, coarse):
    assert common_range(spreads, taken) == reach
    assert coarse_bands(spreads, taken, reach) == coarse


@pytest.mark.parametrize("empty", [np.nan, np.inf, -9999.0, -3.4e38])
def test_pixels_of_floats_that_hold_nothing_are_blank_and_do_not_stretch_the_range(empty):
    pixels = floats()
    pixels[:3] = empty
    tags = UTM if not np.isfinite(empty) else UTM | {NODATA: f"{empty:g}"}
    scene = read_scene(geotiff(pixels, tags))
    assert scene.blank[:3].all() and not scene.blank[3:].any()
    assert scene.reach == (0, 1) and not scene.pixels[:3].any() and scene.stored[1] <= 0.5
    pixels[...] = empty
    with pytest.raises(ImageError, match="it holds no values at all"):
        read_scene(geotiff(pixels, tags))


def test_values_out_of_all_bounds_are_refused_in_one_line():
    pixels = floats()
    pixels[0, 0], pixels[1, 1] = -3e38, 3e38
    with pytest.raises(ImageError, match=r"its values, from -3e\+38 to 3e\+38, are of no use; state those that"):
        read_scene(geotiff(pixels))


def test_a_pixel_without_one_band_alone_is_blank_where_that_is_nan_and_not_where_it_is_nodata():
    pixels = floats()
    pixels[0, 0, 1] = np.nan
    pixels[0, 1, 1] = -9999
    scene = read_scene(geotiff(pixels, UTM | {NODATA: "-9999"}), reach=(0, 1))
    assert np.argwhere(scene.blank).tolist() == [[0, 0]]


def test_signed_numbers_are_read_where_what_is_negative_holds_nothing():
    pixels = RNG.integers(0, 9000, (6, 7, 4)).astype(np.int16)
    pixels[0, 0] = -9999
    scene = read_scene(geotiff(pixels, UTM | {NODATA: "-9999"}))
    assert scene.pixels.dtype == np.uint16 and np.argwhere(scene.blank).tolist() == [[0, 0]]
    np.testing.assert_array_equal(scene.pixels[1:], pixels[1:])
    with pytest.raises(ImageError, match="negative samples"):
        read_scene(geotiff(pixels))


def test_a_single_band_of_floats_with_nan_is_a_grey_photo():
    pixels = floats(1)[:, :, 0]
    pixels[0, :4] = np.nan
    image = read_image(geotiff(pixels), reach=(0, 1))
    assert (image[0, :4] == 0).all()
    np.testing.assert_allclose(image[1:, :, 0], pixels[1:] * 255, atol=0.51)


def test_pictures_of_many_bands_are_shown_in_their_colours():
    pixels = np.zeros((10, 10, 5), np.uint16)
    pixels[:5, :, 3] = 8000  # red
    pixels[:, :5, 2] = 4000  # green
    shown = viewable(pixels, (3, 2, 0))
    assert shown[0, 9].tolist() == [255, 0, 0] and shown[9, 0].tolist() == [0, 127, 0]


def test_three_bands_of_eight_bits_are_shown_in_their_colours_as_they_are():
    pixels = np.full((10, 10, 3), (10, 20, 120), np.uint8)
    assert (viewable(pixels, (2, 1, 0)) == (120, 20, 10)).all()
    assert viewable(pixels, (0, 1, 2)) is pixels and viewable(pixels, ()) is pixels
    assert stretch(pixels, (0, 1, 2)) == (0, 255)  # without a look at them, which takes longer than the model
