"""`--resize pad` and `tile`, from photos to masks: what is trained, scored, exported and predicted says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import simclrseg
from simclrseg.commands.finetune import FinetuneResult, finetune
from simclrseg.commands.predict import predict
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.predict import PredictConfig
from simclrseg.errors import Interrupted, UsageError
from simclrseg.images.framing import Framing
from simclrseg.inference.model import Prediction
from simclrseg.inference.tiling import predict_tiles, to_mask, to_size
from simclrseg.knobs.parsing import parse_config
from simclrseg.metadata import ModelMetadata
from simclrseg.models.weights import read_metadata, read_weights
from simclrseg.targets.segment.target import SegmentationTarget
from tests.folders import write, write_pairs
from tests.observers import stop_at
from tests.small import HARDWARE, changed, evaluated, export_nothing

SIDE = 32


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth photo of odd shape with small bright discs, and their mask."""
    rng = np.random.default_rng(number)
    height, width = (20, 70) if number == 3 else (60 + 3 * number, 110 - 2 * number)
    image = cv2.resize(rng.integers(0, 140, (5, 6, 3), np.uint8), (width, height))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(4):
        x, y = int(rng.integers(8, width - 8)), int(rng.integers(8, height - 8))
        cv2.circle(mask, (x, y), 5, 255, -1)
    image[mask > 0] = (250, 240, 60)
    return image, mask


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``labelled``: 14 pairs, of which the last three test; ``more``: five other photos."""
    root = tmp_path_factory.mktemp("photos")
    write_pairs(root / "labelled", {f"{i:02d}": scene(i) for i in range(14)})
    (root / "labelled" / "test.txt").write_text("11\n12\n13\n")
    for i in range(20, 25):
        write(root / "more" / f"{i}.png", scene(i)[0])
    return root


def tree(photos: Path, runs: Path, resize: str, **data: Any) -> dict[str, Any]:
    return {
        "data": {"dataset": str(photos / "labelled"), "image_size": SIDE, "resize": resize, **data},
        "model": {"backbone": "cnn"},
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "ema": 0.9},
        "hardware": HARDWARE,
        "console": {"runs": str(runs)},
        "run": {"name": resize},
    }


def tuned(values: dict[str, Any], **options: Any) -> FinetuneResult:
    found = finetune(parse_config(FinetuneConfig, values), **options)
    assert isinstance(found, FinetuneResult)
    return found


@pytest.fixture(scope="module", params=["pad", "tile"])
def run(request: pytest.FixtureRequest, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> FinetuneResult:
    """A finished run."""
    return tuned(tree(photos, tmp_path_factory.mktemp("runs"), request.param))


def test_a_run_says_how_it_resizes_and_is_scored_at_both_resolutions(run: FinetuneResult) -> None:
    metadata = read_metadata(run.model)
    assert metadata is not None and metadata.resize == run.run.name
    assert f"{SIDE} px, {run.run.name}" in (run.run / "README.md").read_text()
    assert set(run.test) == {"training", "original"}
    assert run.test["original"]["metrics"]["iou"] > (0.3 if metadata.resize == "tile" else 0.02)
    assert (run.run / "examples.png").is_file()


def test_the_exported_file_says_the_same_as_the_network(run: FinetuneResult, photos: Path) -> None:
    root = run.run.parent.parent
    found = evaluated(root, run.run, sections={"uncertainty": {"ood": [str(photos / "more")]}})
    assert found["metrics"]["iou"] == pytest.approx(run.test["original"]["metrics"]["iou"])
    assert found["ood"][str(photos / "more")]["outside"] == 5
    assert len(list((root / "evaluate" / run.run.name / "worst").iterdir())) > 1
    of_file = evaluated(root, run.onnx)["metrics"]
    assert of_file == pytest.approx(found["metrics"], abs=2e-3)
    model = simclrseg.load_model(run.run)
    assert model.metadata.resize == run.run.name
    learner, metadata = SegmentationTarget.load(run.model)

    def network(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return learner.probabilities(torch.from_numpy(np.ascontiguousarray(images))).numpy()

    framing = Framing.of(metadata)
    for number in (3, 5):  # the first is narrower than a tile
        image = scene(number)[0]
        found = model.predict(image)
        assert isinstance(found, Prediction) and found.mask.shape == image.shape[:2]
        if metadata.resize == "tile":
            expected = np.concatenate([rows for _, rows in predict_tiles(network, image, SIDE, 0.5, fill=framing.fill)])
        else:
            whole = network(framing.image(image)[None])[0]
            expected = to_size(framing.cut(whole, image.shape), image.shape[:2])
        np.testing.assert_allclose(found.probability, expected, atol=1e-4)


def test_predict_takes_the_run_s_own_way_unless_tiles_are_asked_for(run: FinetuneResult, photos: Path, tmp_path: Path):
    def masks(**method: Any) -> np.ndarray:
        file = photos / "labelled" / "images" / "12.png"
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        console = {"output": str(out), "runs": str(run.run.parent.parent)}
        values = {"input": {"inputs": [str(file)], "model": run.run.name}, "method": method, "console": console}
        predict(parse_config(PredictConfig, {**values, "hardware": {"device": "cpu"}}))
        return cv2.imread(str(out), cv2.IMREAD_GRAYSCALE)

    own = masks()
    found = simclrseg.load_model(run.run).predict(scene(12)[0])
    assert isinstance(found, Prediction)
    assert np.array_equal(own, found.mask * np.uint8(255))
    asked = simclrseg.load_model(run.run).predict(scene(12)[0], tile=64, overlap=0.25)
    assert isinstance(asked, Prediction)
    assert np.array_equal(masks(tile=64, overlap=0.25), asked.mask * np.uint8(255))
    assert not np.array_equal(asked.probability, found.probability)
    if run.run.name == "tile":
        assert not np.array_equal(masks(overlap=0.0), to_mask(asked.probability, 0.5) * np.uint8(255))
        wide = simclrseg.load_model(run.run).predict(scene(12)[0], overlap=0.0)
        assert isinstance(wide, Prediction) and not np.array_equal(wide.probability, found.probability)


@pytest.mark.parametrize("resize", ["pad", "tile"])
def test_interrupted_and_resumed_with_other_threads_it_ends_with_the_same_bytes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: str
) -> None:
    export_nothing(monkeypatch)
    values = tree(photos, tmp_path, resize, unlabelled=[str(photos / "more")], max_images=6)
    values = changed(values, "consistency", threshold=0.55)
    whole = tuned(values)
    parts = changed(values, "run", name="parts")
    with pytest.raises(Interrupted):
        tuned(parts, observers=[stop_at(step=1)])
    again = changed(changed(changed(parts, "run", resume="parts"), "hardware", workers=1), "data", cache="none")
    tuned(again)
    first, second = (tmp_path / "finetune" / name for name in (resize, "parts"))
    assert (first / "metrics.csv").read_bytes() == (second / "metrics.csv").read_bytes()
    ours, theirs = (read_weights(folder / "model.safetensors")[0] for folder in (first, second))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert whole.test == json.loads((second / "test.json").read_text())


def test_large_photos_of_small_things_get_a_hint_and_crops_are_counted(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, short_dry_runs: None
) -> None:
    caplog.set_level("INFO", "simclrseg")

    def told(resize: str, folder: Path, **data: Any) -> str:
        caplog.clear()
        values = changed(tree(folder, tmp_path, resize, **data), "run", dry_run=True)
        values["training"]["epochs"] = "auto"
        finetune(parse_config(FinetuneConfig, values))
        return caplog.text

    pairs = {}
    for i in range(12):
        image, mask = np.full((500, 700, 3), 10 * i, np.uint8), np.zeros((500, 700), np.uint8)
        mask[40 * i : 40 * i + 20, 300:320] = 255
        pairs[f"{i:02d}"] = image, mask
    write_pairs(tmp_path / "large" / "labelled", pairs)
    found = told("squash", tmp_path / "large")
    assert "objects of about 20 px or less, which shrink to 1.1 px in squares of 32 px: --resize tile" in found
    assert "which shrink" not in told("squash", photos, image_size=64)  # of little larger photos
    found = told("tile", tmp_path / "large", cache="none")
    assert "an epoch is 2,043 crops of 32 px: as many of each photo as cover it, 227 at most" in found
    assert "each crop decodes its whole photo, 2,043 times an epoch instead of 9 times in all: take --cache" in found
    assert "30 epochs, 7,680 steps (--epochs auto)" in found


def test_classification_refuses_it_by_name(photos: Path, tmp_path: Path) -> None:
    for resize in ("pad", "tile"):
        values = changed(tree(photos, tmp_path, resize), "model", task="classify")
        with pytest.raises(UsageError, match="resize is for task segment and has no meaning for task classify"):
            parse_config(FinetuneConfig, values)


def test_files_from_before_there_was_a_choice_are_squashed() -> None:
    metadata = ModelMetadata(task="segmentation", encoder="cnn", image_size=SIDE)
    texts = {name: text for name, text in metadata.to_strings().items() if name != "resize"}
    old = ModelMetadata.from_strings(texts)
    assert old is not None and old.resize == "squash"
    stored = parse_config(FinetuneConfig, {"data": {"dataset": "shapes", "image_size": SIDE}}, of_a_run=True)
    assert stored.data.resize == "squash"
