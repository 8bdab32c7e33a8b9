"""An exported classification network says the same as the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from simclrseg.errors import GateError
from simclrseg.exporters.onnx import export_onnx
from simclrseg.exporters.verification import check_exact, check_rounded, compare
from simclrseg.metadata import ONNX_PREFIX, ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.classifiers import Classifier
from simclrseg.models.normalize import Normalize

DESCRIBED = ModelMetadata(task="classification", encoder="cnn", image_size=64, classes=("cat", "dog", "bird"))


@pytest.fixture(scope="module")
def model() -> Classifier:
    torch.manual_seed(0)
    model = Classifier(build_backbone("cnn"), 3, dropout=0.5).train()
    with torch.no_grad():
        model(torch.randn(4, 3, 64, 64))  # batch norm has seen something
    return model.eval()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("classifier") / "model.onnx"
    truths = [np.zeros((64, 64), np.uint8)]  # a mask is of no use here
    export_onnx(model, path, DESCRIBED, images=[np.zeros((64, 64, 3), np.uint8)], truths=truths)
    return path


@pytest.fixture(scope="module")
def session(exported) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 33, 50)])
def test_a_file_gives_probabilities_and_the_likeliest_class(model, session, shape):
    images = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    probability, label = session.run(["probability", "label"], {"image": images})
    with torch.inference_mode():
        expected = model(Normalize(DESCRIBED.mean, DESCRIBED.std)(torch.from_numpy(images))).softmax(1).numpy()
    assert probability.shape == (shape[0], 3) and probability.dtype == np.float32
    assert label.shape == (shape[0],) and label.dtype == np.int64
    np.testing.assert_allclose(probability, expected, atol=1e-5)
    np.testing.assert_array_equal(label, expected.argmax(1))


def test_the_check_of_a_file_speaks_of_labels(session):
    checks = ModelMetadata.from_strings(session.get_modelmeta().custom_metadata_map, ONNX_PREFIX).checks
    assert checks["label_agreement"] == 1 and checks["labels_changed"] == 0 and checks["photos"] == 1
    assert not any("mask" in name or "iou" in name for name in checks)


def test_the_labels_that_change_are_counted_over_the_photos():
    def answer(limit: int):
        def of(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            bright = images.mean(axis=(1, 2, 3))
            return np.stack([1 - bright / 255, bright / 255], 1), (bright > limit).astype(np.int64)

        return of

    photos = [np.full((64, 64, 3), value, np.uint8) for value in (10, 90, 110, 200)]
    found = compare(answer(100), answer(80), DESCRIBED, [(1, 64, 64)], photos)
    assert (found.change, found.images) == (0.25, 4)
    assert "labels agree on 80.0% of 5 pictures" in str(found) and "other labels for 25.0% of 4 photos" in str(found)
    with pytest.raises(GateError, match="labels agree"):
        check_exact(found)
    with pytest.raises(GateError, match="costs more"):
        check_rounded(found, 0.2)
    check_rounded(found, 0.3)


def test_a_file_knows_the_names_of_its_classes(session):
    header = session.get_modelmeta().custom_metadata_map
    metadata = ModelMetadata.from_strings(header, ONNX_PREFIX)
    assert metadata.task == "classification" and metadata.classes == ("cat", "dog", "bird")


def test_in_float16_the_logits_are_read_by_two_and_the_answers_stay(model, session, tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (4, 64, 64, 3), np.uint8)
    export_onnx(model, tmp_path / "half.onnx", DESCRIBED, precision="fp16", images=list(images))
    half = onnxruntime.InferenceSession(tmp_path / "half.onnx", providers=["CPUExecutionProvider"])
    (expected, _), (probability, label) = (each.run(None, {"image": images}) for each in (session, half))
    np.testing.assert_allclose(probability, expected, atol=0.01)
    np.testing.assert_array_equal(label, probability.argmax(1))
