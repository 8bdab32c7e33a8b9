"""Pretraining by reconstruction, and what fine-tuning takes of it."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from simclrseg.charts.plots import GAP, HEADING
from simclrseg.commands import prepare_pretrain
from simclrseg.commands.export import export
from simclrseg.commands.finetune import finetune
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.export import ExportConfig
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.errors import Interrupted, RunError, UsageError, WeightsError
from simclrseg.knobs.parsing import parse_config, parse_config_file
from simclrseg.methods import METHODS
from simclrseg.methods.base import Method, method_of
from simclrseg.methods.reconstruction.knobs import Knobs
from simclrseg.models.backbones import build_backbone
from simclrseg.models.segmenters import build_unet
from simclrseg.models.weights import load_backbone, read_metadata
from simclrseg.runs.names import BACKBONE_FILE, MODEL_FILE
from simclrseg.training.session import Session
from simclrseg.weights.decoder import load_decoder
from simclrseg.weights.find import Pretrained, find_pretrained
from tests.observers import stop_at
from tests.small import HARDWARE, MACHINE

PHOTOS = 70


def config(root: Path, **sections) -> PretrainConfig:
    tree = {
        "data": {"dataset": "shapes", "image_size": 32},
        "model": {"method": "reconstruction", "backbone": "resnet18"},
        "reconstruction": {"held_out": 0.1},
        "training": {"epochs": 2, "batch_size": 16},
        "hardware": HARDWARE,
        "console": {"runs": str(root)},
    }
    changed = {name: {**tree.get(name, {}), **values} for name, values in sections.items()}
    return parse_config(PretrainConfig, tree | changed)


@pytest.fixture(scope="module", autouse=True)
def few_photos():
    full = prepare_pretrain.images_to_train_on
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_pretrain, "images_to_train_on", lambda *a, **k: (full(*a, **k)[0], list(range(PHOTOS))))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    return pretrain(config(root)).run


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_made_of_its_knobs(name):
    knobs = METHODS[name]()
    method = method_of(knobs)
    assert isinstance(method, Method) and method.knobs is knobs


def test_a_run_leaves_the_encoder_the_network_and_the_pictures(run):
    assert run.name == "shapes-reconstruction"
    assert {BACKBONE_FILE, MODEL_FILE, "reconstructions.png", "augmentations.png", "curves.png", "README.md"} <= {
        path.name for path in run.iterdir()
    }
    card = (run / "README.md").read_text()
    assert "| cut | 50% of the pixels, in rectangles of 2 to 16 px; the loss is over all pixels |" in card
    assert "temperature" not in card and "contrasted" not in card


def test_encoder_and_network_are_the_same_weights_and_load_strictly(run):
    encoder, whole = load_file(run / BACKBONE_FILE), load_file(run / MODEL_FILE)
    torch.nn.Module.load_state_dict(build_backbone("resnet18"), encoder, strict=True)
    torch.nn.Module.load_state_dict(build_unet(build_backbone("resnet18"), "resnet18", 3), whole, strict=True)
    assert all(torch.equal(tensor, whole[f"encoder.{key}"]) for key, tensor in encoder.items())
    metadata = [read_metadata(run / file) for file in (BACKBONE_FILE, MODEL_FILE)]
    assert [each.task for each in metadata] == ["backbone", "reconstruction"]
    assert [each.decoder for each in metadata] == [None, "unet"]
    assert all(each.method == "reconstruction" and each.encoder == "resnet18" for each in metadata)


@pytest.mark.parametrize("moved", [False, True])
def test_its_export_is_the_encoder_also_where_the_run_was_moved(run, tmp_path, moved):
    place = shutil.copytree(run, tmp_path / "elsewhere") if moved else run
    config = {"model": {"run": str(place), "format": "safetensors"}}
    done = export(parse_config(ExportConfig, config | {"console": {"output": str(tmp_path / "b.safetensors")}}))
    exported = load_file(done.file)
    torch.nn.Module.load_state_dict(build_backbone("resnet18"), exported, strict=True)
    assert "backbone.safetensors" in (tmp_path / "b.md").read_text()
    with pytest.raises(RunError, match="is a pretrain run, and a finetune run is needed"):
        export(parse_config(ExportConfig, {"model": {"run": str(place)}}))


def test_the_curves_compare_with_painting_the_mean_and_score_held_out_photos(run):
    first, last = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    assert float(last["train_loss"]) < float(first["train_loss"])
    assert float(last["train_mean_fill"]) > 0.3
    assert float(last["val_psnr"]) > 5
    assert 0 <= float(last["val_knn"]) <= 1
    assert json.loads((run / "environment.json").read_text())["photos"] == PHOTOS - 7
    metrics = read_metadata(run / MODEL_FILE).metrics
    assert metrics["loss"] == pytest.approx(float(last["train_loss"]), rel=1e-4)  # to compare with mean_fill
    assert metrics["psnr"] == pytest.approx(float(last["val_psnr"]), rel=1e-4)


def test_reconstructions_show_held_out_photos_cut_painted_and_original(run):
    from simclrseg.data.datasets.shapes import Shapes
    from simclrseg.images.resizing import resize_image

    picture = cv2.imread(str(run / "reconstructions.png"))[:, :, ::-1]
    side, step = 96, 96 + GAP
    assert picture.shape == (HEADING + 7 * step - GAP, 3 * step - GAP, 3)
    held_out = method_of(Knobs(held_out=0.1)).held_out(PHOTOS)
    assert len(set(held_out.tolist())) == 7
    cut, painted, original = (picture[HEADING : HEADING + side, k * step : k * step + side][::3, ::3] for k in range(3))
    photo, another = (resize_image(Shapes().image(int(sorted(held_out)[k])), (32, 32)) for k in range(2))
    distances = [np.abs(original.astype(int) - one).mean() for one in (photo, another)]
    assert distances[0] < 0.1 * distances[1]
    kept = (cut == original).mean()
    assert 0.3 < kept < 0.7
    assert (painted != original).mean() > 0.5


def test_interrupted_and_resumed_ends_as_if_nothing_had_happened(run, tmp_path):
    with pytest.raises(Interrupted, match="--resume shapes-reconstruction"):
        pretrain(config(tmp_path), observers=[stop_at(step=3)])
    folder = tmp_path / "pretrain" / run.name
    found = find_pretrained(run.name, root=tmp_path, allow_unfinished=True)
    report = load_decoder(build_unet(build_backbone("resnet18"), "resnet18", 1), found, decoder="unet")
    assert report.loaded == report.total  # of an unfinished run too
    resumed = parse_config_file(PretrainConfig, folder / "config.yaml")
    options = {"resume": run.name}
    pretrain(resumed.model_copy(update={"run": resumed.run.model_copy(update=options)}))
    assert (folder / "metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes()
    mine, theirs = load_file(folder / MODEL_FILE), load_file(run / MODEL_FILE)
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in mine.items())


def small_finetune(run: Path, *, dry: bool = False, **model) -> FinetuneConfig:
    return parse_config(
        FinetuneConfig,
        {
            "data": {"dataset": "shapes", "image_size": 32, "data_ratio": 0.1},
            "model": {"pretrained": str(run), **model},
            "training": {"epochs": 1, "batch_size": 8},
            "hardware": HARDWARE,
            "run": {"dry_run": dry},
            "console": {"runs": str(run.parents[1])},
        },
    )


@pytest.mark.usefixtures("unexported")
def test_finetuning_takes_encoder_and_decoder_and_says_that_the_last_layer_is_new(run, caplog):
    with caplog.at_level(logging.INFO, logger="simclrseg"):
        tuned = finetune(small_finetune(run, init_decoder=True)).run
    report = json.loads((tuned / "load_report.json").read_text())
    assert report["loaded"] == report["total"] and report["decoder"]["loaded"] == report["decoder"]["total"] > 20
    assert {key.split(".")[0] for key in report["decoder"]["left_out"]} == {"encoder", "segmentation_head"}
    (line,) = [line for line in caplog.messages if line.startswith("decoder of")]
    assert "left out: encoder, segmentation_head; the last layer is new" in line


def test_the_loaded_decoder_is_the_one_that_painted_and_the_last_layer_is_not(run):
    torch.manual_seed(3)
    model = build_unet(build_backbone("resnet18"), "resnet18", 3)  # three classes: even the last layer would fit
    head = model.segmentation_head[0].weight.clone()
    load_decoder(model, Pretrained("x", run / BACKBONE_FILE), decoder="unet")
    whole = load_file(run / MODEL_FILE)
    assert all(torch.equal(tensor, whole[f"decoder.{key}"]) for key, tensor in model.decoder.state_dict().items())
    assert torch.equal(model.segmentation_head[0].weight, head)


@pytest.mark.usefixtures("short_dry_runs")
def test_without_the_option_the_decoder_is_new(run, caplog):
    with caplog.at_level(logging.INFO, logger="simclrseg"):
        finetune(small_finetune(run, dry=True))
    assert "loaded 120 of 120 tensors" in caplog.text and "decoder of" not in caplog.text


def test_weights_without_a_decoder_are_refused_in_one_line(run, tmp_path):
    lonely = tmp_path / BACKBONE_FILE
    lonely.write_bytes((run / BACKBONE_FILE).read_bytes())
    before = set((run.parents[1] / "finetune").glob("*"))
    for pretrained in ("none", str(lonely)):
        asked = small_finetune(run, init_decoder=True, backbone="resnet18")
        asked = asked.model_copy(update={"model": asked.model.model_copy(update={"pretrained": pretrained})})
        with pytest.raises(UsageError, match="has no decoder; leave it out, or pretrain with --method reconstruction"):
            finetune(asked)
    assert set((run.parents[1] / "finetune").glob("*")) == before


def test_the_decoder_of_another_encoder_is_refused(run):
    model = build_unet(build_backbone("resnet50"), "resnet50", 1)
    with pytest.raises(WeightsError, match="does not fit this decoder"):
        load_decoder(model, Pretrained("x", run / BACKBONE_FILE), decoder="unet")


@pytest.mark.usefixtures("short_dry_runs")
def test_another_decoder_than_the_pretrained_one_is_refused_with_its_name(run):
    asked = small_finetune(run, dry=True, init_decoder=True)
    other = asked.model_copy(update={"segment": asked.target.model_copy(update={"decoder": "fpn"})})
    message = "has the decoder unet, and the network here fpn; pass --decoder unet, or leave --init-decoder out"
    with pytest.raises(UsageError, match=message):
        finetune(other)


def test_the_encoder_alone_can_be_taken_out_of_either_file(run):
    for file in (BACKBONE_FILE, MODEL_FILE):
        report = load_backbone(build_backbone("resnet18"), run / file)
        assert report.loaded == report.total


def test_nothing_is_held_out_where_nothing_is_scored(run):
    assert len(method_of(Knobs(held_out=0.0)).held_out(1000)) == 0
    assert len(method_of(Knobs()).held_out(100_000)) == 500
    prepared = prepare_pretrain.prepare(Session("pretrain", config(run, run={"knn_every": 0}), MACHINE))
    assert len(prepared.learned) == PHOTOS and not prepared.held_out and prepared.validation is None


def test_the_held_out_photos_do_not_depend_on_the_seed(run):
    one, other = (
        prepare_pretrain.prepare(Session("pretrain", config(run, run={"seed": seed}), MACHINE)).held_out
        for seed in (0, 1)
    )
    assert one == other


def test_a_pretraining_that_names_its_method_has_that_methods_defaults():
    plain = parse_config(PretrainConfig, {"data": {"dataset": "shapes"}, "model": {"method": "reconstruction"}})
    assert (plain.training.optimizer, plain.training.peak_rate, plain.training.warmup) == ("adam", 3e-3, 10)
    assert (plain.training.final_rate, plain.data.image_size, plain.model.backbone) == (0.01, 256, "resnet34")
    other = parse_config(
        PretrainConfig,
        {
            "data": {"dataset": "shapes", "image_size": 96},
            "model": {"method": "reconstruction"},
            "training": {"optimizer": "sgd"},
        },
    )
    assert (other.training.peak_rate, other.data.image_size) == (0.03, 96)  # that of sgd, not of adam
    simclr = parse_config(PretrainConfig, {"data": {"dataset": "shapes"}})
    assert (simclr.training.optimizer, simclr.training.final_rate) == ("lars", 0)


@pytest.mark.parametrize("stem", ["cifar", "auto"])
def test_a_stem_that_a_decoder_cannot_stand_on_is_refused(tmp_path, stem):
    with pytest.raises(UsageError, match=f"stem {stem} does not go with method reconstruction"):
        config(tmp_path, model={"stem": stem})


@pytest.mark.parametrize(
    ("section", "values", "says"),
    [
        ("reconstruction", {"cut_share": 1.0}, "cut_share 1.0: must be a number with 0 < x < 1"),
        ("reconstruction", {"cut_side": 1}, "cut_side 1: must be"),
        ("reconstruction", {"held_out": 0.9}, "held_out 0.9: must be"),
        ("reconstruction", {"loss_pixels": "holes"}, "loss_pixels 'holes': must be one of all, cut"),
        ("training", {"final_rate": 1.0}, "final_rate 1.0: must be"),
    ],
)
def test_values_out_of_range_are_named(tmp_path, section, values, says):
    with pytest.raises(UsageError, match=says):
        config(tmp_path, **{section: values})
