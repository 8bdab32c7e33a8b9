"""Labels of tools that are not read are named as what they are."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.errors import DataError
from simclrseg.labels.unread import find_unread
from simclrseg.targets.knobs import LabelledData
from simclrseg.targets.segment.examination import open_masks
from tests.folders import write

GRAIN = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
CVAT = '<?xml version="1.0"?><annotations><version>1.1</version><image id="0" name="a.jpg"></image></annotations>'


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("annotations.xml", CVAT, "is CVAT's XML; export as COCO, or masks as PNG"),
        (
            "a.xml",
            "<annotation><object><bndbox></bndbox></object></annotation>",
            "is boxes in Pascal VOC's XML; label outlines",
        ),
        ("via_project.json", '{"_via_settings": {}}', "is the JSON of VGG Image Annotator; export as COCO"),
        ("via.csv", "filename,file_size,region_count,region_shape_attributes\n", "is the CSV of VGG Image Annotator"),
        ("project-1.json", '[{"id": 1, "annotations": [], "data": {}}]', "is Label Studio's own JSON; export as COCO"),
        ("ann/a.jpg.json", '{"objects": [{"classTitle": "cat"}]}', "is Supervisely's JSON; export as COCO"),
        ("a.json", '{"item": {"name": "a.jpg", "slots": []}}', "is Darwin's JSON of V7; export as COCO"),
        ("qupath.json", '{"type": "FeatureCollection"}', "is GeoJSON, as of QuPath; export masks as PNG"),
        ("fields.geojson", "{}", "is GeoJSON; draw it into PNGs"),
        ("export.ndjson", "{}", "is NDJSON, as of Labelbox; export as COCO"),
        ("RoiSet.zip", "PK", "is regions of ImageJ; export masks as PNG"),
        ("a_seg.npy", "x", "is Cellpose's own file; save its masks as PNG"),
    ],
)
def test_labels_that_are_not_read_are_named_with_the_way_out(tmp_path, name, text, says):
    write(tmp_path / "a.jpg", GRAIN)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="holds no masks that are read: ") as caught:
        open_masks(LabelledData(dataset=str(tmp_path)))
    assert says in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize(
    ("name", "text"), [("notes.json", '{"a": 1}'), ("list.json", "[1, 2]"), ("a.csv", "a,b\n"), ("a.xml", "<svg/>")]
)
def test_other_files_are_not_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert find_unread(tmp_path) is None


def test_masks_of_which_none_pairs_are_named_and_no_classes_are_advised(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[5:12, 4:20] = 255
    for part in ("One", "Two"):
        for number in range(3):
            write(tmp_path / "1. Original Images" / part / f"X_{number}.jpg", GRAIN + np.uint8(number))
            write(tmp_path / "2. Groundtruths" / part / f"lesion {number} of X.png", mask)
    with pytest.raises(DataError) as caught:
        open_masks(LabelledData(dataset=str(tmp_path)))
    assert "holds no masks of its photos by their names, but pictures that look like masks, in fo" in str(caught.value)
    assert "classify" not in str(caught.value)
