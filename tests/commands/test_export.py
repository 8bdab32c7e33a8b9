"""`export`, `export --inspect` and `evaluate model.onnx` on a run, without the minutes that tracing takes."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from simclrseg.cli.app import app, main
from simclrseg.commands.export import export, next_command, output_of
from simclrseg.commands.inspect import inspect
from simclrseg.config.export import ExportConfig
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.errors import DataError, ModelFileError, OutputError, RunError, UsageError
from simclrseg.evaluation import export_images
from simclrseg.images.framing import Framing
from simclrseg.inference.session import open_model
from simclrseg.knobs.parsing import parse_config
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import read_metadata, read_weights
from simclrseg.runs.run import Run
from tests.exporters.small import with_props
from tests.readme import GUIDE, words
from tests.small import evaluated

PLAIN = """
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
side = int(session.get_modelmeta().custom_metadata_map["simclrseg.image_size"])
photo = Image.open("image.jpg").convert("RGB")
pixels = np.asarray(photo.resize((side, side), Image.Resampling.BOX))
probability, mask = session.run(["probability", "mask"], {"image": pixels[None]})
Image.fromarray(mask[0] * 255).resize(photo.size, Image.Resampling.NEAREST).save("mask.png")
"""


def exporting(pipeline, output: Path | None = None, check: dict | None = None, overwrite: bool = False, **model):
    console = {"runs": str(pipeline.runs), "output": output and str(output), "overwrite": overwrite}
    return export(parse_config(ExportConfig, {"model": model, "check": check or {}, "console": console}))


def inspecting(path: Path, as_json: bool = True):
    return inspect(ExportConfig.model_validate({"console": {"inspect": str(path), "as_json": as_json}}))


@pytest.fixture
def model(pipeline) -> Path:
    return pipeline.finetuned.run / "model.onnx"


def test_int8_is_calibrated_and_measured_on_the_runs_own_photos(pipeline, tmp_path, caplog):
    caplog.set_level("INFO")
    result = exporting(pipeline, tmp_path / "small.onnx", {"tolerance": 0.5}, precision="int8")
    assert (result.check.against, result.check.images) == ("masks", 64)
    assert result.megabytes < 16  # of 57 in float32
    assert any("64 test photos of shapes, calibrated on" in line for line in caplog.messages)
    metadata = open_model(tmp_path / "small.onnx", "cpu").metadata
    assert (metadata.precision, metadata.checks) == ("int8", result.check.facts())


def test_int8_is_calibrated_on_training_photos_and_checked_on_others(pipeline):
    run = Run(pipeline.finetuned.run)
    metadata, photos = read_metadata(pipeline.finetuned.model), open_dataset("shapes")
    found = export_images.images_of_run(run, metadata, (32, 32), calibrated=True, needed_by=None)
    learned = {*json.loads((run.folder / "split.json").read_text())["train"]}
    framing = Framing.of(metadata)
    seen = {framing.image(photos.image(i)).tobytes() for i, key in enumerate(photos.keys) if key in learned}
    assert len(found.calibration) == len(found.check) == 64
    assert {image.tobytes() for image in found.calibration} <= seen
    assert seen.isdisjoint(image.tobytes() for image in found.check)


def test_an_exported_file_is_scored_as_its_run(pipeline, model, tmp_path):
    of_file = evaluated(tmp_path / "a", model)
    of_run = evaluated(tmp_path / "b", pipeline.finetuned.run)
    assert (of_file["n"], of_file["split"], of_file["model"]) == (of_run["n"], "test", str(model))
    assert of_file["metrics"] == pytest.approx(of_run["metrics"], abs=1e-3)
    assert Path(of_file["report"]).name == "model"


def test_a_file_whose_test_photos_are_others_is_not_scored(pipeline, model, tmp_path):
    other = with_props(model, tmp_path / "m.onnx", test_hash="0" * 64)
    with pytest.raises(DataError, match=r"are not those that .* was trained with"):
        evaluated(tmp_path / "runs", other)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "does not say which photos it was trained on: name some with --dataset"),
        ({"dataset": "/nowhere/photos"}, "are not at hand .*nowhere.*: name some with --dataset"),
        ({"no_such_knob": 3}, "are not at hand .*no_such_knob"),
    ],
)
def test_a_file_whose_photos_are_not_at_hand_asks_for_others(pipeline, model, tmp_path, data, says):
    other = with_props(model, tmp_path / "m.onnx", data=data)
    with pytest.raises(DataError, match=says):
        evaluated(tmp_path / "runs", other)


def test_other_photos_are_scored_by_the_rules_of_the_file(pipeline, model, tmp_path):
    other = with_props(model, tmp_path / "m.onnx", data={"dataset": "/nowhere/photos", "split_seed": 5})
    result = evaluated(tmp_path / "runs", other, dataset="shapes", split="validation")
    assert (result["dataset"], result["split"]) == ("shapes", "validation")


def test_what_is_no_file_of_ours_is_not_scored(pipeline, tmp_path):
    (tmp_path / "text.onnx").write_text("not a model")
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=[opset]), tmp_path / "other.onnx")
    for name, says in (
        ("text", "is text"),
        ("other", "not exported by simclrseg"),
        ("none", "no such file"),
    ):
        with pytest.raises(ModelFileError, match=says):
            evaluated(tmp_path / "runs", tmp_path / f"{name}.onnx")
    with pytest.raises(UsageError, match=r"only .onnx is scored"):
        evaluated(tmp_path / "runs", tmp_path / "model.pt2")
    assert inspecting(tmp_path / "other.onnx")["metadata"] == {}
    with pytest.raises(ModelFileError, match=r"text.onnx is no ONNX model"):
        inspecting(tmp_path / "text.onnx")


@pytest.fixture
def without_photos(monkeypatch):
    def gone(run, metadata):
        raise DataError("there is no folder 'photos'")

    monkeypatch.setattr(export_images, "images_of", gone)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_without_photos_a_lower_precision_is_refused(pipeline, without_photos, tmp_path, precision):
    with pytest.raises(DataError, match=r"not at hand \(there is no folder 'photos'\): pass --calibrate FOLDER"):
        exporting(pipeline, tmp_path / "m.onnx", precision=precision)
    assert not list(tmp_path.iterdir())


def test_without_photos_float32_is_checked_on_generated_pictures(pipeline, without_photos, tmp_path, caplog):
    result = exporting(pipeline, tmp_path / "m.onnx")
    assert any(line.startswith("IoU not measured") for line in caplog.messages)
    assert "iou_change" not in result.facts()["check"] and result.check.mask > 0.999


def test_a_folder_of_photos_serves_in_their_place(pipeline, without_photos, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "photos").mkdir()
    for number in range(7):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), pixels)
    check = {"calibrate": str(tmp_path / "photos"), "tolerance": 0.9}
    result = exporting(pipeline, tmp_path / "m.onnx", check, precision="int8")
    assert (result.check.images, result.check.against) == (3, "network")
    assert any("calibrated on 4 photos" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("model", "check", "says"),
    [
        ({"format": "torch", "precision": "int8"}, {}, "--precision is not for --format torch: it goes with onnx"),
        ({"format": "torch", "opset": 20}, {}, "--opset is not for --format torch"),
        ({"format": "safetensors", "fixed_shape": (1, 64, 64)}, {}, "it goes with onnx and torch"),
        ({"format": "safetensors"}, {"calibrate": "shapes"}, "--calibrate is not for --format safetensors"),
        ({"format": "torch"}, {}, r"the name of a file of --format torch ends in .pt2"),
    ],
)
def test_what_does_not_go_together_is_refused(pipeline, tmp_path, model, check, says):
    with pytest.raises(UsageError, match=says):
        exporting(pipeline, tmp_path / "m.onnx", check, **model)


@pytest.mark.parametrize(
    ("resize", "shape", "ends"),
    [
        ("tile", None, "--model m.onnx"),
        ("tile", (4, 128, 128), "--model m.onnx"),
        ("tile", (1, 256, 256), "--model m.onnx --tile 256"),
        ("tile", (1, 96, 128), "export --inspect m.onnx"),
        ("tile", (1, 32, 32), "export --inspect m.onnx"),
        ("squash", (1, 96, 128), "--model m.onnx"),
    ],
)
def test_the_next_command_is_one_that_the_shape_of_the_file_allows(resize, shape, ends):
    metadata = ModelMetadata(task="segmentation", encoder="resnet18", image_size=128, resize=resize)
    assert next_command("onnx", Path("m.onnx"), metadata, shape).endswith(ends)


def test_no_example_of_the_help_would_replace_what_a_finished_run_has(tmp_path, monkeypatch):
    run = Run(tmp_path / "runs" / "finetune" / "pets")
    run.folder.mkdir(parents=True)
    for name in ("model.safetensors", "model.onnx"):
        (run.folder / name).touch()
    monkeypatch.chdir(tmp_path)
    seen: list[ExportConfig] = []
    monkeypatch.setattr("simclrseg.commands.export.export", lambda config: seen.append(config) or {})
    (examples,) = (command.cls.examples for command in app.registered_commands if command.name == "export")
    for example in examples:
        with pytest.raises(SystemExit, match="0"):
            main(words(example))
    assert [output_of(config, run).name for config in seen] == ["model.pt2", "pets.onnx"]


def test_where_nothing_can_be_written_nothing_is_tried(pipeline, tmp_path):
    (tmp_path / "old.onnx").write_bytes(b"old")
    (tmp_path / "folder.onnx").mkdir()
    for name, says in (("old", "--overwrite"), ("folder", "is a folder"), ("none/m", "there is no folder")):
        with pytest.raises(UsageError, match=says):
            exporting(pipeline, tmp_path / f"{name}.onnx")
    with pytest.raises(UsageError, match="is the run's own: pass -o FILE"):
        exporting(pipeline, pipeline.finetuned.model, overwrite=True, format="safetensors")
    assert (tmp_path / "old.onnx").read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_file(pipeline, tmp_path, monkeypatch):
    def full(model, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    (tmp_path / "m.onnx").write_bytes(b"old")
    with pytest.raises(OutputError, match="No space left on device"):
        exporting(pipeline, tmp_path / "m.onnx", overwrite=True)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_pretraining_run_gives_its_backbone_as_weights_only(pipeline, tmp_path):
    run = str(pipeline.pretrained.run)
    exporting(pipeline, tmp_path / "b.safetensors", run=run, format="safetensors")
    tensors, metadata = read_weights(tmp_path / "b.safetensors")
    assert metadata.task == "backbone" and metadata.method == "simclr"
    torch.nn.Module.load_state_dict(build_backbone("cnn"), tensors, strict=True)
    with pytest.raises(RunError, match="simclrseg finetune --dataset FOLDER --pretrained shapes"):
        exporting(pipeline, tmp_path / "b.onnx", run=run)
    with pytest.raises(RunError, match="no such run"):
        exporting(pipeline, tmp_path / "c.safetensors", run="nothing", format="safetensors")


def test_the_card_of_exported_weights_replaces_no_file_unasked(pipeline, tmp_path):
    run, notes = str(pipeline.pretrained.run), tmp_path / "notes.md"
    notes.write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.md exists: pass --overwrite to replace it, or -o for another file"):
        exporting(pipeline, tmp_path / "notes.safetensors", run=run, format="safetensors")
    assert notes.read_text() == "mine" and [*tmp_path.iterdir()] == [notes]
    exporting(pipeline, tmp_path / "notes.safetensors", overwrite=True, run=run, format="safetensors")
    assert notes.read_text() != "mine"


def test_inspect_prints_what_a_file_takes_gives_and_says(pipeline, model, tmp_path):
    facts = inspecting(model)
    assert facts["inputs"] == [{"name": "image", "type": "uint8", "shape": ["batch", "height", "width", 3]}]
    assert [output["name"] for output in facts["outputs"]] == ["probability", "mask"]
    assert facts["opset"] == 18 and facts["metadata"]["data"]["dataset"] == "shapes"
    flat = inspecting(model, as_json=False)["metadata"]
    assert flat["data.dataset"] == "shapes" and flat["precision"] == "fp32" and flat["metrics.precision"] >= 0
    weights = inspecting(model.with_name("model.safetensors"))
    assert weights["tensors"] == 92 and weights["metadata"]["encoder"] == "cnn"


def test_inspect_never_imports_torch(model):
    code = "import sys; sys.modules['torch'] = None; from simclrseg.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "export", "--inspect", str(model), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metadata"]["encoder"] == "cnn"


def test_three_packages_are_enough_to_run_the_file(model, tmp_path):
    from simclrseg.data.datasets.dataset import DatasetOptions
    from simclrseg.data.datasets.locate import open_dataset

    cv2.imwrite(str(tmp_path / "image.jpg"), open_dataset("shapes", DatasetOptions()).image(3)[:80, :, ::-1])
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    blocked = "import sys\nfor name in ('torch', 'simclrseg', 'cv2', 'onnx'):\n    sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocked + PLAIN], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    mask = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (80, cv2.imread(str(tmp_path / "image.jpg")).shape[1])
    assert 0 < (mask == 255).mean() < 1 and set(np.unique(mask)) == {0, 255}


@pytest.mark.skipif("import onnxruntime" not in GUIDE.text, reason="the guide does not show them")
def test_these_are_the_lines_of_the_guide():
    assert f"```python{PLAIN}```" in GUIDE.text
