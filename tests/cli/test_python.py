"""What ``import simclrseg`` offers."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

import simclrseg
from simclrseg.data.datasets.shapes import Shapes
from simclrseg.errors import UsageError
from tests.inference.models import write_classifier, write_segmenter
from tests.readme import GUIDE

SMALL = {"device": "cpu", "workers": 1, "precision": "fp32"}
SMALL_EVALUATION = {"device": "cpu", "workers": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("face") / "runs"


@pytest.fixture(scope="module")
def tuned(runs) -> simclrseg.cli.python.TrainedRun:
    run = simclrseg.pretrain(
        dataset="shapes", backbone="cnn", image_size=32, epochs=1, batch_size=64, max_images=64, runs=runs, **SMALL
    )
    return simclrseg.finetune(
        dataset="shapes", pretrained=run, image_size=64, epochs=1, batch_size=16, data_ratio=0.1, runs=runs, **SMALL
    )


def test_a_pretraining_starts_a_fine_tuning_and_that_a_prediction(tuned):
    assert 0 <= tuned.metrics["original"]["metrics"]["iou"] <= 1
    image = Shapes(1).image(0)
    prediction = tuned.model.predict(image)
    assert prediction.mask.shape == prediction.probability.shape == image.shape[:2]
    assert prediction.mask.dtype == np.uint8 and prediction.probability.dtype == np.float32
    assert prediction.classes == ("background", "figure")
    assert ((prediction.probability > tuned.model.metadata.threshold) == prediction.mask).all()
    assert prediction.overlay().size == image.shape[1::-1]


def test_a_notebook_shows_the_numbers_of_runs_and_of_evaluations(tuned, runs):
    iou = tuned.metrics["original"]["metrics"]["iou"]
    for shown in (tuned._repr_html_(), simclrseg.evaluate(tuned, runs=runs, **SMALL_EVALUATION)._repr_html_()):
        assert shown.startswith("<div") and f">{iou:.4f}" in shown and ">without learning<" in shown
    pretrained = simclrseg.cli.python.TrainedRun(runs / "pretrain" / "<shapes>", {"knn": 0.25})
    assert ">0.2500<" in pretrained._repr_html_() and "&lt;shapes&gt;" in pretrained._repr_html_()


def test_the_readmes_lines_work_as_they_stand_but_for_the_size_of_the_trainings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shapes = Shapes(24)
    for folder in ("photos", "labelled/images", "labelled/masks"):
        Path(folder).mkdir(parents=True)
    for index in range(24):
        image = shapes.image(index)[:, :, ::-1]
        cv2.imwrite(f"photos/{index}.png", image)
        cv2.imwrite(f"labelled/images/{index}.png", image)
        cv2.imwrite(f"labelled/masks/{index}.png", 255 * shapes.mask(index))
    cv2.imwrite("image.jpg", image)
    (code,) = re.findall(r"^```python\n(import simclrseg\n.*?)^```", GUIDE.text, flags=re.DOTALL | re.MULTILINE)
    small = 'image_size=32, batch_size=8, device="cpu", precision="fp32", workers=1'
    code = code.replace('"resnet18"', '"cnn"').replace("epochs=50", f"epochs=1, {small}")
    found: dict[str, object] = {}
    exec(code.replace("epochs=30", f"epochs=1, {small}"), found)
    with Image.open("overlay.png") as overlay:
        assert overlay.size == found["prediction"].overlay().size == (96, 96)
    assert found["model"].metadata.classes == found["tuned"].model.metadata.classes
    assert len(found["backbone"].mean) == 3


def test_a_file_a_pil_image_and_an_array_are_the_same_image(tuned, tmp_path):
    image, model = Shapes(1).image(0), tuned.model
    cv2.imwrite(str(tmp_path / "image.png"), image[:, :, ::-1])
    expected = model.predict(image).probability
    for same in (tmp_path / "image.png", str(tmp_path / "image.png"), Image.fromarray(image)):
        np.testing.assert_array_equal(model.predict(same).probability, expected)
    with pytest.raises(UsageError, match=r"an array \(96, 96\) of float64 is no image: pass \(H, W, 3\) uint8"):
        model.predict(np.zeros((96, 96)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "CMYK", "LAB", "1"])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_pil_image_of_any_mode_is_what_its_file_is(tmp_path, mode, hidden):
    photo = Image.fromarray(Shapes(1).image(0))
    if mode == "LAB":
        photo = ImageCms.profileToProfile(
            photo, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    photo = photo.convert(mode)
    if mode in ("RGBA", "LA", "PA"):
        alpha = Image.new("L", photo.size, 0)
        alpha.paste(0 if hidden else 255, (0, 0, 48, 96))
        photo.putalpha(alpha)
    if mode == "P":
        photo.info["transparency"] = 0
    file = tmp_path / ("image.png" if mode in ("RGBA", "LA", "P", "1") else "image.tif")
    photo.save(file)
    model = simclrseg.load_model(write_segmenter(tmp_path / "a.onnx"))
    np.testing.assert_array_equal(model.predict(photo).image, model.predict(file).image)


def test_a_pil_image_is_nothing_for_a_model_of_other_bands(tmp_path):
    model = simclrseg.load_model(write_segmenter(tmp_path / "a.onnx", bands=("red", "green", "blue", "nir")))
    with pytest.raises(UsageError, match=r"takes 4 of 8 bits \(red, green, blue, nir\): pass its file, or \(H, W, 4\)"):
        model.predict(Image.fromarray(Shapes(1).image(0)))


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3)])
def test_an_array_without_a_pixel_is_no_image(tmp_path, shape):
    model = simclrseg.load_model(write_segmenter(tmp_path / "a.onnx"))
    with pytest.raises(UsageError, match=r"an array \(.*\) of uint8 is no image: pass \(H, W, 3\) uint8"):
        model.predict(np.zeros(shape, np.uint8))


def test_a_threshold_of_ones_own_makes_another_mask(tuned):
    image = Shapes(1).image(0)
    prediction = tuned.model.predict(image, threshold=0.01)
    assert ((prediction.probability > 0.01) == prediction.mask).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"threshold": 0.0}, r"threshold is 0\.0: pass a number with 0 < x < 1"),
        ({"threshold": 50}, "threshold is 50: pass"),
        ({"tile": 0}, "tile is 0: pass a whole number from 64 to 8,192"),
        ({"tile": 100.5}, r"tile is 100\.5: pass"),
        ({"tile": 64, "overlap": 1}, "overlap is 1: pass a number with 0 <= x < 1"),
    ],
)
def test_what_a_prediction_cannot_be_made_with_is_refused_as_by_the_command(tmp_path, options, reason):
    with pytest.raises(UsageError, match=reason):
        simclrseg.load_model(write_segmenter(tmp_path / "a.onnx")).predict(Shapes(1).image(0), **options)


def test_what_means_nothing_for_a_model_is_refused_as_by_the_command(tmp_path):
    three, labels = write_segmenter(tmp_path / "a.onnx", classes=3), write_classifier(tmp_path / "b.onnx")
    with pytest.raises(UsageError, match="takes the likeliest: leave threshold out"):
        simclrseg.load_model(three).predict(Shapes(1).image(0), threshold=0.9)
    with pytest.raises(UsageError, match="gives labels, not masks: leave tile out"):
        simclrseg.load_model(labels).predict(Shapes(1).image(0), tile=64)
    for model, remedy in ((three, "pass tile too, or leave overlap out"), (labels, "leave overlap out")):
        with pytest.raises(UsageError, match=rf"overlap is 0\.25, which is of tiles, .* whole: {remedy}"):
            simclrseg.load_model(model).predict(Shapes(1).image(0), overlap=0.25)


def test_the_newest_run_is_opened_by_default_and_torch_is_not(tuned, runs):
    code = (
        "import sys, simclrseg; before = set(sys.modules); model = simclrseg.load_model(runs=sys.argv[1]); "
        "assert not {'torch', 'numpy'} & before; assert 'torch' not in sys.modules; print(model)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(runs)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(Path(tuned) / "model.onnx") in done.stdout


def test_a_backbone_is_a_module_with_its_mean_and_std(tuned, runs):
    backbone = simclrseg.load_backbone("shapes", runs=runs)
    assert len(backbone.mean) == len(backbone.std) == 3 and not backbone.training
    other = "encoder=resnet18 contradicts pretrained shapes, which is a cnn: take encoder=cnn"
    with pytest.raises(UsageError, match=other):
        simclrseg.load_backbone("shapes", runs=runs, encoder="resnet18")
    with pytest.raises(UsageError, match="none names no weights"):
        simclrseg.load_backbone("none")


def test_a_wrong_keyword_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="pretrain has no option 'epoch': did you mean 'epochs'"):
        simclrseg.pretrain(dataset="shapes", epoch=3)
    with pytest.raises(UsageError, match="--epochs 0: must be a whole number"):
        simclrseg.pretrain(dataset="shapes", epochs=0)


def test_a_value_that_is_no_number_is_answered_as_that_and_empty_takes_it(tuned, runs):
    with pytest.raises(UsageError, match="--epochs nan: must be a whole number"):
        simclrseg.pretrain(dataset="shapes", epochs=float("nan"))
    (model,) = simclrseg.evaluate(tuned, runs=runs, device="cpu", split="validation", empty=float("nan")).models
    assert model.notes["empty"] == "nan"


def test_what_is_done_is_told_where_nobody_has_set_up_logging_and_what_is_found_is_short(tuned, runs, capsys):
    report = simclrseg.evaluate(tuned, runs=runs, device="cpu", split="validation", min="iou=1")
    assert f"run {tuned.folder}" in capsys.readouterr().err
    assert not logging.getLogger("simclrseg").handlers
    (model,) = report.models
    found = report.facts()
    assert len(report.missed) == 1 and report.missed == found["missed"]
    assert found["report"] == str(report.folder) and found["metrics"]["iou"] == model.metrics["iou"].value
    assert f"iou {model.metrics['iou']}" in repr(report) and len(repr(report)) < 1000  # a notebook shows it


def test_a_dry_run_has_nothing_to_return():
    with pytest.raises(UsageError, match="type `simclrseg pretrain --dry-run`"):
        simclrseg.pretrain(dataset="shapes", dry_run=True)


def test_the_face_is_what_it_says():
    assert set(simclrseg.__all__) <= set(dir(simclrseg))
    with pytest.raises(AttributeError, match="has no attribute 'fine_tune'"):
        simclrseg.fine_tune  # noqa: B018


@pytest.mark.parametrize("value", [b"shapes", {1, 2}, [["shapes"]], [{}], np.zeros(3), object(), print])
def test_a_value_of_no_option_is_named_with_its_type(value: object) -> None:
    with pytest.raises(UsageError, match=r"pretrain: dataset is of type \w+; pass text, a number, a path, or a list"):
        simclrseg.pretrain(dataset=value)


@pytest.mark.parametrize("name", ["config", "resume", "runs"])
def test_a_name_that_is_no_text_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=f"finetune: {name} is of type int; pass text or a path"):
        simclrseg.finetune(**{name: 5})
