"""Masks of GeoTIFFs lie where their pictures do, as rasterio and GDAL read them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

import simclrseg
from simclrseg.commands.predict import predict
from simclrseg.config.predict import PredictConfig
from simclrseg.errors import UsageError
from simclrseg.images.opening import turn_back
from tests.images.geotiffs import KEYS, MATRIX, NODATA, SCALE, UTM, geotiff

RASTERIO = "rasterio reads what GDAL does: pip install '.[test]'"


def scene(height: int = 40, width: int = 60) -> np.ndarray:
    """A photo that is dark but for a bright ring, a bright speck, and a bright corner."""
    pixels = np.full((height, width, 3), 20, np.uint8)
    cv2.circle(pixels, (25, 20), 12, (230, 230, 230), 5)
    pixels[3, 50] = pixels[4, 51] = 230
    pixels[30:, 45:] = 230
    return pixels


def run(model: Path, inputs, output=None, *, method=None, bands=None, **console: Any):
    config = {
        "input": {"inputs": [str(one) for one in inputs], "model": str(model), "bands": bands},
        "method": {"tile": 64, **(method or {})},
        "hardware": {"device": "cpu"},
        "console": {"output": None if output is None else str(output), **console},
    }
    return predict(PredictConfig.model_validate(config))


def ids(path: Path) -> np.ndarray:
    return tifffile.imread(path)


def places(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of places."""
    return [
        record.message
        for record in caplog.records
        if "lie" in record.message or "of its georeference" in record.message
    ]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "scene.tif").write_bytes(geotiff(scene()))
    return tmp_path / "scene.tif"


@pytest.mark.parametrize(
    ("system", "turn", "point"),
    [("EPSG:32633", 0, False), ("EPSG:32633", 30, False), ("EPSG:4326", 0, False), ("EPSG:32633", 0, True),
     ("EPSG:3035", 12, True), ("+proj=laea +lat_0=5 +lon_0=20 +units=m +ellps=bessel", 0, False)],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rasterio's own
def test_rasterio_reads_the_same_place_before_and_after(make_model, tmp_path, system, turn, point):
    rasterio = pytest.importorskip("rasterio", reason=RASTERIO)
    features = pytest.importorskip("rasterio.features", reason=RASTERIO)
    size = 0.001 if system == "EPSG:4326" else 10.0
    transform = rasterio.Affine(size, 0, 15.0, 0, -size, 50.0) @ rasterio.Affine.rotation(turn)
    pixels = scene()
    options = {"driver": "GTiff", "height": 40, "width": 60, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    with rasterio.open(tmp_path / "in.tif", "w", crs=system, transform=transform, **options) as file:
        file.write(np.moveaxis(pixels, 2, 0))
        if point:
            file.update_tags(AREA_OR_POINT="Point")
    run(make_model(), [tmp_path / "in.tif"], tmp_path / "out", outputs=["geotiff", "geojson"])
    with rasterio.open(tmp_path / "in.tif") as before, rasterio.open(tmp_path / "out" / "in.geotiff.tif") as after:
        assert before.transform.almost_equals(transform)
        assert after.transform == before.transform and after.bounds == before.bounds
        assert after.crs == before.crs and after.tags()["AREA_OR_POINT"] == before.tags()["AREA_OR_POINT"]
        assert after.nodata is None and after.tags()["CLASS_1"] == "cat"
        mask = after.read(1)
    np.testing.assert_array_equal(mask, (pixels[:, :, 0] > 127).astype(np.uint8))
    found = json.loads((tmp_path / "out" / "in.geojson").read_text())
    shapes = [(one["geometry"], one["properties"]["class_id"]) for one in found["features"]]
    drawn = features.rasterize(shapes, out_shape=mask.shape, transform=transform, dtype="uint8")
    np.testing.assert_array_equal(drawn, mask)
    corners = np.array([~transform * point for one, _ in shapes for ring in one["coordinates"] for point in ring])
    assert np.abs(corners - corners.round()).max() < 1e-3  # those of pixels
    assert all(("area" in one["properties"]) == (system != "EPSG:4326") for one in found["features"])  # not of degrees
    if system.startswith("EPSG"):
        name = found["crs"]["properties"]["name"]
        assert rasterio.crs.CRS.from_user_input(name).to_epsg() == int(system[5:]) or name.endswith("CRS84")
    else:
        assert "crs" not in found


@pytest.mark.filterwarnings("ignore:.*:rasterio.errors.NotGeoreferencedWarning")
def test_floats_that_gdal_predicts_are_read_as_it_reads_them(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason=RASTERIO)
    from simclrseg.images.decode import read_scene

    pixels = np.random.default_rng(0).random((4, 50, 70)).astype(np.float32)
    options = {"driver": "GTiff", "height": 50, "width": 70, "count": 4, "compress": "deflate", "predictor": 3}
    for number, more in enumerate(
        [{}, {"interleave": "band"}, {"tiled": True, "blockxsize": 32, "blockysize": 16}, {"BIGTIFF": "YES"}]
    ):
        for dtype in ("float32", "float64"):
            file = tmp_path / f"{number}{dtype}.tif"
            with rasterio.open(file, "w", dtype=dtype, **options, **more) as written:
                written.write(pixels.astype(dtype))
                written.descriptions = ["B02", "B03", "B04", "B08"]
            read = read_scene(file, reach=(0, 1))
            assert read.bands == ("blue", "green", "red", "nir")
            np.testing.assert_allclose(read.pixels, np.moveaxis(pixels, 0, 2) * 10_000, atol=0.51)


def test_a_file_named_as_a_tiff_or_as_geojson_is_one(make_model, photo, tmp_path):
    for name in ("mask.tif", "mask.TIFF", "mask.geojson"):
        result = run(make_model(), [photo], tmp_path / name)
        (row,) = result.done
        assert row["geojson" if name.endswith("json") else "geotiff"] == str(tmp_path / name)
    np.testing.assert_array_equal(ids(tmp_path / "mask.tif"), scene()[:, :, 0] > 127)
    assert (tmp_path / "mask.tif").read_bytes() == (tmp_path / "mask.TIFF").read_bytes()
    with pytest.raises(UsageError, match=r"overlay is written as PNG; name it .*mask\.png, or pass --as geotiff"):
        run(make_model(), [photo], tmp_path / "mask.tif", outputs=["overlay"])


def test_results_beside_photos_are_no_photos_of_the_next_call(make_model, photo):
    run(make_model(), [photo.parent], outputs=["geotiff", "geojson"])
    again = run(make_model(), [photo.parent], outputs=["geotiff"], skip_existing=True)
    assert (again.photos, len(again.skipped)) == (1, 1)


def test_polygons_have_holes_classes_sizes_and_the_turn_of_rfc_7946(make_model, photo, tmp_path):
    run(make_model(), [photo], tmp_path / "a.geojson")
    found = json.loads((tmp_path / "a.geojson").read_text())
    assert found["type"] == "FeatureCollection"
    assert found["crs"] == {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    by_size = sorted((one["properties"]["pixels"], len(one["geometry"]["coordinates"])) for one in found["features"])
    assert [rings for _, rings in by_size] == [1, 1, 1, 2]  # two specks, the corner, and the ring around its hole
    assert sum(pixels for pixels, _ in by_size) == (scene()[:, :, 0] > 127).sum()
    for one in found["features"]:
        outline, *holes = (np.array(ring) for ring in one["geometry"]["coordinates"])
        assert (outline[0] == outline[-1]).all() and turns(outline) > 0 and all(turns(hole) < 0 for hole in holes)
        about = one["properties"]
        assert about["area"] == 100 * about["pixels"] == pytest.approx(turns(outline) + sum(map(turns, holes)))
        assert about["class"] == "cat" and about["probability"] == pytest.approx(230 / 255, abs=0.01)


def turns(ring: np.ndarray) -> float:
    """The area of a closed ring, positive against the clock."""
    x, y = (ring - ring[0]).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def test_a_photo_without_a_place_gives_a_plain_tiff_and_pixels_and_says_so(make_model, tmp_path, caplog):
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(scene()).save(tmp_path / name, quality=95)
    with caplog.at_level(logging.INFO):
        run(make_model(), [tmp_path], tmp_path / "out", outputs=["geotiff", "geojson"])
    told = places(caplog)
    assert len(told) == 2  # once each, of whichever came first
    for part in ("its mask is a plain TIFF", "its coordinates are pixels"):
        assert sum(f".jpg: it does not say where it lies, so that {part}" in line for line in told) == 1
    with tifffile.TiffFile(tmp_path / "out" / "a.geotiff.tif") as file:
        assert KEYS not in file.pages[0].tags and file.pages[0].asarray().sum() == (scene()[:, :, 0] > 127).sum()
    found = json.loads((tmp_path / "out" / "a.geojson").read_text())
    assert "crs" not in found and all("area" not in one["properties"] for one in found["features"])
    corners = np.concatenate([ring for one in found["features"] for ring in one["geometry"]["coordinates"]])
    assert corners.min(0).tolist() == [12, 3] or corners.max(0).tolist() == [60, 40]


def test_a_png_of_a_map_says_once_what_it_lost(make_model, photo, tmp_path, caplog):
    (tmp_path / "photos").mkdir()
    for name in ("a.tif", "b.tif"):
        (tmp_path / "photos" / name).write_bytes(photo.read_bytes())
    with caplog.at_level(logging.INFO):
        run(make_model(), [tmp_path / "photos"], tmp_path / "out", outputs=["mask"])
    (line,) = places(caplog)
    assert "it lies on the earth (EPSG:32633), of which --as mask keeps nothing: --as geotiff or" in line
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run(make_model(), [tmp_path / "photos"], tmp_path / "both", outputs=["mask", "geotiff"])
    assert places(caplog) == []


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_an_orientation_moves_no_pixel_on_the_earth(make_model, tmp_path, orientation, keep):
    (tmp_path / "a.tif").write_bytes(geotiff(scene(), orientation=orientation))
    run(make_model(), [tmp_path / "a.tif"], tmp_path / "a.geojson", keep_orientation=keep)
    run(make_model(), [tmp_path / "a.tif"], tmp_path / "m.tif", keep_orientation=keep)
    found = json.loads((tmp_path / "a.geojson").read_text())
    corners = np.concatenate([ring for one in found["features"] for ring in one["geometry"]["coordinates"]])
    assert corners.max(0).tolist() == [500_600, 5_399_970] and corners.min(0)[1] == 5_399_600
    assert all(turns(np.array(one["geometry"]["coordinates"][0])) > 0 for one in found["features"])
    mask = ids(tmp_path / "m.tif")
    stored = mask if keep else turn_back(mask, orientation)
    np.testing.assert_array_equal(stored, scene()[:, :, 0] > 127)


def test_polygons_of_noise_are_said_to_be_many_once(make_model, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("simclrseg.inference.maps.MANY", 50)
    noise = np.where(np.random.default_rng(0).random((40, 60, 1)) < 0.1, 230, 20).astype(np.uint8).repeat(3, axis=2)
    (tmp_path / "a.tif").write_bytes(geotiff(noise))
    run(make_model(), [tmp_path / "a.tif"], tmp_path / "a.geojson")
    assert len(json.loads((tmp_path / "a.geojson").read_text())["features"]) > 100
    (line,) = [one for one in caplog.messages if "polygons" in one]
    assert line.startswith("a.tif: more than 50 polygons, as of noise:") and line.endswith(
        "--as geotiff holds the same pixels in less"
    )


@pytest.mark.parametrize("method", [{}, {"tile": 64, "overlap": 0}, {"tta": True}])
def test_pixels_without_data_are_255_in_a_geotiff_and_in_no_polygon(make_model, tmp_path, method):
    pixels = scene()
    pixels[30:, 45:] = 250
    (tmp_path / "a.tif").write_bytes(geotiff(pixels, UTM | {NODATA: "250"}))
    result = run(make_model(), [tmp_path / "a.tif"], tmp_path, method=method, outputs=["geotiff", "geojson", "mask"])
    mask = ids(tmp_path / "a.geotiff.tif")
    assert (mask[30:, 45:] == 255).all() and (mask == 255).sum() == 150
    with tifffile.TiffFile(tmp_path / "a.geotiff.tif") as file:
        assert file.pages[0].tags[NODATA].value == "255"
    assert not cv2.imread(str(tmp_path / "a.mask.png"), -1)[30:, 45:].any()
    found = json.loads((tmp_path / "a.geojson").read_text())
    assert sum(one["properties"]["pixels"] for one in found["features"]) == (mask == 1).sum() < 600
    sure = np.where(mask == 1, 230, 255 - 20)[mask != 255].mean() / 255
    assert result.done[0]["confidence"] == pytest.approx(sure, abs=1e-3)
    options = {"flips" if name == "tta" else name: value for name, value in ({"tile": 64} | method).items()}
    in_python = simclrseg.load_model(make_model()).predict(tmp_path / "a.tif", **options)
    np.testing.assert_array_equal(in_python.mask, np.where(mask == 255, 0, mask))


def test_a_geotiff_has_colours_of_its_classes_and_a_value_for_no_data_where_its_picture_has_one(make_model, tmp_path):
    (tmp_path / "a.tif").write_bytes(geotiff(scene(), UTM | {NODATA: "250"}))
    run(make_model(), [tmp_path / "a.tif"], tmp_path / "m.tif")
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert file.pages[0].tags[NODATA].value == "255" and file.pages[0].asarray().max() == 1
        assert file.pages[0].colormap[:, 1].tolist() == [128 * 257, 0, 0]


def test_a_cutout_is_transparent_where_the_picture_holds_nothing(make_model, tmp_path):
    pixels = scene()
    pixels[30:, 45:] = 250
    pixels[33:36, 48:55] = 230  # bright, and around it nothing
    (tmp_path / "a.tif").write_bytes(geotiff(pixels, UTM | {NODATA: "250"}))
    run(make_model(), [tmp_path / "a.tif"], tmp_path / "c.png", outputs=["cutout"])
    alpha = cv2.imread(str(tmp_path / "c.png"), -1)[:, :, 3]
    empty = (pixels == 250).all(axis=2)
    assert not alpha[empty].any() and alpha[34, 51] == 255


def test_a_scene_that_holds_nothing_at_all_is_named_and_the_rest_goes_on(make_model, tmp_path):
    bands = np.dstack([scene().astype(np.uint16) * 40, np.full((40, 60), 99, np.uint16)])
    names = ["red", "green", "blue", "nir"]
    (tmp_path / "a.tif").write_bytes(geotiff(np.zeros_like(bands), UTM | {NODATA: "0"}, names=names))
    (tmp_path / "b.tif").write_bytes(geotiff(bands, UTM, names=names))
    result = run(make_model(), [tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out")
    (failed,) = result.failed
    assert "a.tif: it holds no values at all" in failed["reason"] and len(result.done) == 1


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({**UTM, SCALE: (10.0,)}, "ModelPixelScale has 1 numbers (10), and needs 3"),
        ({**UTM, MATRIX: (1.0,) * 16}, "ModelTransformation has 16 numbers"),
        ({**UTM, KEYS: (1, 1, 0, 99)}, "GeoKeyDirectory is damaged, and with it the coordinate system"),
        ({**UTM, NODATA: "?"}, "GDAL_NODATA ('?') is no number"),
    ],
)
def test_a_damaged_place_is_one_line_and_the_mask_is_written(make_model, tmp_path, tags, says, caplog):
    (tmp_path / "a.tif").write_bytes(geotiff(scene(), tags))
    with caplog.at_level(logging.WARNING):
        result = run(make_model(), [tmp_path / "a.tif"], tmp_path, outputs=["geotiff", "geojson"])
    (line,) = places(caplog)
    assert says in line and "\n" not in line and not result.failed
    np.testing.assert_array_equal(ids(tmp_path / "a.geotiff.tif"), scene()[:, :, 0] > 127)
    json.loads((tmp_path / "a.geojson").read_text())


def test_a_model_of_photos_takes_red_green_and_blue_of_many_bands_by_name(make_model, tmp_path, caplog):
    pixels = scene()
    bands = np.dstack([np.zeros((40, 60), np.uint8), pixels[:, :, ::-1], np.full((40, 60), 99, np.uint8)])
    names = ["coastal", "B02", "B03", "B04", "nir"]
    (tmp_path / "a.tif").write_bytes(geotiff(bands, names=names))
    (tmp_path / "b.tif").write_bytes(geotiff(bands))
    with caplog.at_level(logging.INFO):
        result = run(make_model(), [tmp_path / "a.tif"], tmp_path / "m.tif")
    assert not result.failed and "bands by name: red, green, blue of coastal, blue, green, red, nir" in caplog.text
    np.testing.assert_array_equal(ids(tmp_path / "m.tif"), pixels[:, :, 0] > 127)
    (failed,) = run(make_model(), [tmp_path / "b.tif"], tmp_path / "n.tif").failed
    assert failed["reason"].endswith("takes 3 of 8 (red, green, blue); name its bands with --bands")
    (tmp_path / "c.tif").write_bytes(geotiff(bands[:, :, :2]))
    (failed,) = run(make_model(), [tmp_path / "c.tif"], tmp_path / "n.tif").failed
    assert "it has 2 bands of 8 bits, and" in failed["reason"]
    assert failed["reason"].endswith("(red, green, blue); give a picture that has all of these")
    (tmp_path / "d.tif").write_bytes(geotiff(bands[:, :, :4], names=[*names[:3], "nir"]))
    (failed,) = run(make_model(), [tmp_path / "d.tif"], tmp_path / "n.tif").failed
    assert failed["reason"].endswith("(red, green, blue); give a picture that has red too")
    run(make_model(), [tmp_path / "b.tif"], tmp_path / "n.tif", bands=",".join(names))
    run(make_model(), [tmp_path / "a.tif"], tmp_path / "o", outputs=["overlay"])
    np.testing.assert_array_equal(ids(tmp_path / "n.tif"), ids(tmp_path / "m.tif"))
    shown = cv2.imread(str(tmp_path / "o" / "a.png"))[:, :, ::-1]
    np.testing.assert_array_equal(shown[pixels[:, :, 0] < 127], pixels[pixels[:, :, 0] < 127])


def test_an_overlay_of_many_bands_is_the_command_s_in_python_too_whatever_stands_for_nothing(make_model, tmp_path):
    names = ("blue", "green", "red", "nir")
    pixels = np.linspace(40, 90, 40 * 60).astype(np.uint8).reshape(40, 60, 1) + np.arange(4, dtype=np.uint8)
    pixels[:20] = 250  # as nothing
    (tmp_path / "a.tif").write_bytes(geotiff(pixels, UTM | {NODATA: "250"}, names=names))
    model = make_model(bands=names)
    run(model, [tmp_path / "a.tif"], tmp_path / "o.png", outputs=["overlay"])
    shown = cv2.imread(str(tmp_path / "o.png"))[:, :, ::-1]
    in_python = simclrseg.load_model(model).predict(tmp_path / "a.tif", tile=64).overlay()
    np.testing.assert_array_equal(np.asarray(in_python), shown)
    assert shown[20:].min() < 10 and shown[20:].max() > 245  # stretched over what it holds


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_deep_bands_are_scaled_for_a_model_of_photos(make_model, tmp_path, kind):
    pixels = np.dstack([scene(), np.zeros((40, 60), np.uint8)])
    deep = (pixels.astype(np.float32) / 255 * (65_535 if kind == "uint16" else 1)).astype(kind)
    (tmp_path / "a.tif").write_bytes(geotiff(deep, names=["red", "green", "blue", "nir"]))
    run(make_model(), [tmp_path / "a.tif"], tmp_path / "m.tif")
    np.testing.assert_array_equal(ids(tmp_path / "m.tif"), scene()[:, :, 0] > 127)


def test_a_band_of_another_kind_does_not_darken_reflectances_for_a_model_of_photos(make_model, tmp_path):
    pixels = np.dstack([scene().astype(np.float32) / 255, np.full((40, 60), 300, np.float32)])
    (tmp_path / "a.tif").write_bytes(geotiff(pixels, names=["red", "green", "blue", "thermal"]))
    run(make_model(), [tmp_path / "a.tif"], tmp_path / "m.tif")
    np.testing.assert_array_equal(ids(tmp_path / "m.tif"), scene()[:, :, 0] > 127)


def test_stdin_and_stdout_keep_the_place(make_model, tmp_path, monkeypatch, capfdbinary):
    import io
    from types import SimpleNamespace

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(geotiff(scene()))))
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=out))
    run(make_model(), ["-"], "-", outputs=["geotiff"])
    with tifffile.TiffFile(io.BytesIO(out.getvalue())) as file:
        assert file.pages[0].tags[KEYS].value[3] == 3 and file.pages[0].asarray().shape == (40, 60)
