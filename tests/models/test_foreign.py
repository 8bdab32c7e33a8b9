"""Checkpoints of other tools: every layout loads the same encoder, and what is none is named as what it is."""

from __future__ import annotations

import argparse
import gzip
import pickle
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from simclrseg.errors import WeightsError
from simclrseg.metadata import RGB
from simclrseg.models.backbones import build_backbone
from simclrseg.models.vit import ViTEncoder
from simclrseg.models.weights import load_backbone, portable, read_metadata
from tests.models.features import last_features

State = dict[str, Tensor]
HEAD = {"0.weight": torch.ones(4, 4), "0.bias": torch.ones(4)}


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """torchvision's ResNet-18, classifier and all, whose batch norms have seen something."""
    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=10).train()
    with torch.no_grad():
        module(torch.randn(4, 3, 64, 64))
    return module.eval()


def under(prefix: str, state: State) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


def body(state: State) -> State:
    return {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}


def numbered(state: State) -> State:
    """As ``nn.Sequential(*list(resnet.children())[:-1])`` calls them."""
    names = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    return {
        f"{names.index(first)}.{rest}": t for first, _, rest, t in ((*k.partition("."), t) for k, t in state.items())
    }


LAYOUTS: dict[str, Any] = {
    "torchvision": lambda s: s,
    "smp": lambda s: {**under("encoder.", body(s)), **under("decoder.", HEAD), **under("segmentation_head.", HEAD)},
    "lightning": lambda s: {
        "state_dict": {**under("backbone.", body(s)), **under("projection_head.layers.", HEAD)},
        "epoch": 3,
        "global_step": 7,
        "pytorch-lightning_version": "2.1",
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(3)}}}],
        "hyper_parameters": {"lr": 0.3},
        "callbacks": {},
    },
    "lightly": lambda s: {"state_dict": {**under("backbone.", numbered(body(s))), **under("projection_head.", HEAD)}},
    "lightly-train": lambda s: under("_model.", body(s)),
    "solo-learn": lambda s: {"state_dict": {**under("backbone.", body(s)), **under("projector.", HEAD)}},
    "moco": lambda s: {
        "epoch": 1,
        "arch": "resnet18",
        "state_dict": {
            **under("module.encoder_k.", under_noise(body(s))),
            **under("module.encoder_q.", {**body(s), **under("fc.", HEAD)}),
            "module.queue": torch.ones(4, 4),
        },
    },
    "vissl": lambda s: {"classy_state_dict": {"base_model": {"model": {"trunk": under("_feature_blocks.", body(s))}}}},
    "dino": lambda s: {
        "student": {**under("module.backbone.", under_noise(body(s))), **under("module.head.", HEAD)},
        "teacher": {**under("backbone.", body(s)), **under("head.", HEAD)},
        "args": argparse.Namespace(arch="resnet18", output_dir=Path("runs")),
        "best": np.float64(0.5),
    },
    "ddp": lambda s: {"model": under("module.", s)},
    "compiled": lambda s: under("_orig_mod.backbone.", body(s)),
    "legacy counters": lambda s: {"net": {k: t for k, t in under("net.", s).items() if "num_batches" not in k}},
    "bare": lambda s: body(s),
    "identity for fc": lambda s: {**under("resnet.", body(s)), **under("projector.", HEAD)},
    "encoder and head": lambda s: {**under("encoder.", body(s)), **under("projection_head.", HEAD)},
    "underlying_model": lambda s: {"state_dict": under("model.underlying_model.", body(s)), "callbacks": {}},
}


def under_noise(state: State) -> State:
    return {key: torch.randn_like(t) if t.is_floating_point() else t for key, t in state.items()}


def is_flat(content: Any) -> bool:
    """Whether a safetensors file could hold it."""
    return all(isinstance(value, Tensor) for value in content.values())


FILES = [(layout, ".ckpt") for layout in LAYOUTS] + [
    (layout, ".safetensors") for layout, wrap in LAYOUTS.items() if is_flat(wrap({"conv1.weight": torch.zeros(1)}))
]


@pytest.mark.parametrize(("layout", "suffix"), FILES)
def test_every_layout_gives_the_same_features(resnet, tmp_path, layout, suffix):
    content = LAYOUTS[layout](resnet.state_dict())
    path = tmp_path / f"weights{suffix}"
    if suffix == ".ckpt":
        torch.save(content, path)
    else:
        safetensors.torch.save_file({key: tensor.clone() for key, tensor in content.items()}, path)
    encoder = build_backbone("resnet18")
    report = load_backbone(encoder, path)
    assert report.loaded == report.total and not report.missing and not report.mismatched
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(encoder.eval()(images)[-1], last_features(resnet, images))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".pth.tar"])
def test_the_suffix_does_not_matter(resnet, tmp_path, suffix):
    torch.save(resnet.state_dict(), tmp_path / f"a{suffix}")
    assert load_backbone(build_backbone("resnet18"), tmp_path / f"a{suffix}").loaded == 120
    assert read_metadata(tmp_path / f"a{suffix}") is None
    safetensors.torch.save_file(resnet.state_dict(), tmp_path / f"b{suffix}")
    assert load_backbone(build_backbone("resnet18"), tmp_path / f"b{suffix}").loaded == 120


def test_the_old_format_of_torch_is_read(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert load_backbone(build_backbone("resnet18"), tmp_path / "old.pth").loaded == 120


def test_the_report_says_where_it_was_what_else_fitted_and_what_was_left_out(resnet, tmp_path):
    torch.save(LAYOUTS["moco"](resnet.state_dict()), tmp_path / "moco.pth")
    assert str(load_backbone(build_backbone("resnet18"), tmp_path / "moco.pth")) == (
        "loaded 120 of 120 tensors; from 'state_dict'; prefix 'module.encoder_q.' removed; "
        "'state_dict.module.encoder_k' would fit as well; left out: encoder_k, fc, queue"
    )
    torch.save(LAYOUTS["dino"](resnet.state_dict()), tmp_path / "dino.pth")
    assert str(load_backbone(build_backbone("resnet18"), tmp_path / "dino.pth")) == (
        "loaded 120 of 120 tensors; from 'teacher'; prefix 'backbone.' removed; "
        "'student.module.backbone' would fit as well; left out: head"
    )


def test_timm_weights_load_into_timm_features(tmp_path):
    torch.manual_seed(1)
    model = timm.create_model("convnext_atto", num_classes=5)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "convnext.pth")
    encoder = build_backbone("tu-convnext_atto").eval()
    report = load_backbone(encoder, tmp_path / "convnext.pth")
    assert report.loaded == report.total and str(report).endswith("left out: head")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        features = model.eval().stages(model.stem(images))
        assert torch.equal(encoder(images)[-1], features)


def test_torchvisions_transformer_is_read(tmp_path):
    torch.manual_seed(2)
    model = torchvision.models.VisionTransformer(224, 16, num_layers=2, num_heads=12, hidden_dim=768, mlp_dim=3072)
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    encoder = build_backbone("vit_b_16").eval()
    del encoder.model.blocks[2:]
    report = load_backbone(encoder, tmp_path / "vit.pth")
    assert report.loaded == report.total and str(report).endswith("left out: heads")
    images = torch.randn(1, 3, 224, 224)
    model.heads = nn.Identity()
    with torch.inference_mode():
        torch.testing.assert_close(encoder.pooled(images), model.eval()(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("side", "prefix"), [(96, 1), (384, 1), (384, 0)])
def test_positions_for_pictures_of_another_size_are_resampled_as_timm_does(tmp_path, side, prefix):
    torch.manual_seed(2)
    knobs = {"depth": 1, "num_classes": 0, "class_token": bool(prefix), "global_pool": "token" if prefix else "avg"}
    model = timm.create_model("vit_tiny_patch16_224", img_size=side, **knobs)
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    encoder = ViTEncoder("vit_tiny_patch16_224")
    encoder.model = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, **knobs)
    report = load_backbone(encoder, tmp_path / "vit.pth", minimum=1.0)
    line = f"position embeddings resampled from {side // 16} x {side // 16} patches to 14 x 14"
    assert report.adapted == [line] and line in str(report)
    model.set_input_size(img_size=(224, 224))
    torch.testing.assert_close(encoder.model.pos_embed, model.pos_embed)


VIT = "vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("encoder", "file", "options", "has"),
    [
        ("resnet18", "seresnet18", {}, r"layer1\.0\.se, layer1\.1\.se, layer2\.0\.se and 4 more beside what matches"),
        ("resnet34", "resnet34d", {}, r"layer2\.0\.downsample\.2, .*, layer4\.0\.downsample\.2 beside"),
        (VIT, "deit_tiny_distilled_patch16_224", {}, "dist_token beside what matches"),
        (VIT, VIT, {"reg_tokens": 4, "no_embed_class": True}, "reg_token beside what matches"),
        (VIT, VIT, {"init_values": 1e-5}, r"blocks\.0\.ls1, blocks\.0\.ls2, blocks\.1\.ls1 and 21 more beside"),
        (VIT, VIT, {"qk_norm": True}, r"blocks\.0\.attn\.k_norm, blocks\.0\.attn\.q_norm"),
        (VIT, VIT, {"patch_size": 8}, r"patch_embed\.proj\.weight \(192, 3, 8, 8\) for \(192, 3, 16, 16\)"),
        (VIT, VIT, {"class_token": False, "global_pool": "avg"}, r"pos_embed \(1, 196, 192\) for \(1, 197, 192\)"),
        (VIT, VIT, {"img_size": (112, 224)}, r"pos_embed \(1, 99, 192\) for \(1, 197, 192\)"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_another_network_that_matches_but_for_a_few_parts_is_refused(tmp_path, encoder, file, options, has, suffix):
    state = under("model.", timm.create_model(file, **options).state_dict())
    path = tmp_path / f"other{suffix}"
    safetensors.torch.save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    backbone = build_backbone(encoder if encoder.startswith("resnet") else f"tu-{encoder}")
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"is of another network than this encoder: it has {has}") as caught:
        load_backbone(backbone, path)
    said = str(caught.value)
    assert "choose the --backbone that it is of" in said
    assert ("leave them out of the file" in said) == ("beside what matches" in said)
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())


def test_buffers_that_a_network_makes_by_itself_and_unused_tokens_are_no_other_network(resnet, tmp_path):
    counted = {"layer1.0.conv1.total_ops": torch.zeros(1, dtype=torch.float64), "layer1.0.index": torch.zeros(3).int()}
    torch.save({**resnet.state_dict(), **counted}, tmp_path / "counted.pth")
    assert load_backbone(build_backbone("resnet18"), tmp_path / "counted.pth").loaded == 120
    vit = {**timm.create_model(VIT).state_dict(), "mask_token": torch.ones(1, 1, 192)}
    torch.save(vit, tmp_path / "masked.pth")
    assert load_backbone(build_backbone(f"tu-{VIT}"), tmp_path / "masked.pth").loaded == 150


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (
            {
                "layer1.0.conv1.weight_fake_quant.scale": torch.rand(64),
                "layer1.0.conv1.weight_fake_quant.activation_post_process.max_val": torch.rand(64),
                "layer1.0.conv1.activation_post_process.min_val": torch.tensor(0.5),
            },
            "layer1.0.conv1.weight_fake_quant, layer1.0.conv1.activation_post_process",
        ),
        ({"layer3.0.drop_block.keep": torch.rand(7)}, "layer3.0.drop_block"),
        ({"layer3.aux.weight": torch.rand(9, 256, 1, 1), "layer3.aux.bias": torch.rand(9)}, "layer3.aux"),
    ],
    ids=["quantisation", "drop block", "head of a stage"],
)
def test_buffers_and_heads_inside_an_encoder_are_left_out_and_named(resnet, tmp_path, more, named):
    torch.save(under("model.", {**more, **resnet.state_dict()}), tmp_path / "more.pth")
    report = load_backbone(build_backbone("resnet18"), tmp_path / "more.pth")
    assert report.loaded == report.total == 120
    assert str(report).endswith(f"left out: fc, {named}")


def test_a_first_layer_that_no_option_fits_is_refused_and_says_what_could_be_fitted(resnet, tmp_path):
    torch.save({**resnet.state_dict(), "conv1.weight": torch.randn(64, 3, 5, 5)}, tmp_path / "five.pth")
    reason = r"another network than this encoder: it has conv1\.weight \(64, 3, 5, 5\) for \(64, 3, 7, 7\)"
    with pytest.raises(WeightsError, match=rf"{reason}.*--adapt fits nothing but a first layer of other bands"):
        load_backbone(build_backbone("resnet18"), tmp_path / "five.pth")


def test_an_old_densenet_is_read(tmp_path):
    encoder = build_backbone("densenet121")
    old = {key.replace(".norm1", ".norm.1").replace(".conv2", ".conv.2"): t for key, t in encoder.state_dict().items()}
    old = {key.replace(".norm2", ".norm.2").replace(".conv1", ".conv.1"): t for key, t in old.items()}
    torch.save(old, tmp_path / "densenet.pth")
    report = load_backbone(build_backbone("densenet121"), tmp_path / "densenet.pth")
    assert report.loaded == report.total


def test_another_architecture_fails_and_shows_keys_of_both_sides(tmp_path):
    torch.save({"state_dict": torchvision.models.mobilenet_v2().state_dict()}, tmp_path / "mobile.pth")
    with pytest.raises(WeightsError, match=r"\d+ of \d+ tensors match.*features\.0\.0\.weight.*conv1\.weight"):
        load_backbone(build_backbone("resnet18"), tmp_path / "mobile.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match=r"0 of 100 tensors match.*the file has no tensors"):
        load_backbone(build_backbone("resnet18"), tmp_path / "empty.pth")


def test_a_dict_that_holds_itself_does_no_harm(resnet, tmp_path):
    tree: dict[str, Any] = {"state_dict": resnet.state_dict()}
    tree["again"] = tree
    torch.save(tree, tmp_path / "loop.pth")
    assert load_backbone(build_backbone("resnet18"), tmp_path / "loop.pth").loaded == 120


def test_dicts_that_lie_absurdly_deep_do_no_harm(resnet, tmp_path):
    tree: dict[str, Any] = {"state_dict": resnet.state_dict()}
    inner = tree
    for _ in range(400):
        inner["a"] = inner = {}
    torch.save(tree, tmp_path / "deep.pth")
    assert load_backbone(build_backbone("resnet18"), tmp_path / "deep.pth").loaded == 120


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", "is only a pointer of Git LFS.*git lfs pull"),
        (b"PK\x03\x04" + b"\0" * 100, "is no whole checkpoint"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.garbage", "is no whole checkpoint"),
        (pickle.dumps({"model": {"conv1": np.ones(2)}}, protocol=2), "is a pickle of another kind.*torch.save"),
        (pickle.dumps({"model": {"conv1": np.ones(2)}}, protocol=4), "is a pickle of another kind.*torch.save"),
        (b"\x82\xa6params\x81\xa5conv1" + b"\0" * 100, "is a msgpack file, as of Flax: load it there"),
        (b"\xef\xbb\xbf <!doctype html>", "is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a server's error in XML: the download"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML">', "is a web page: the download"),
        (
            b'<?xml version="1.0"?>\n<net name="r" version="11">',
            "is an XML file: where it is a model of OpenVINO, name",
        ),
        ("# Gewöhnlich\nimport torch\n".encode(), r"is text \(# Gewöhnlich\): name the file that holds the weights$"),
        (b"Entry not found\n", r"is text \(Entry not found\): name the file that holds"),
        (b"\0" * 600, "holds nothing but zeros"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "is a packed archive"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 600, "is an HDF5 file"),
        (b"GGUF\3\0\0\0", "is a GGUF file"),
        (b'{"weight_map": {}}', "is a JSON file.*in several files"),
        (gzip.compress(b"weights", mtime=0), "is a packed archive"),
    ],
)
def test_a_file_that_is_something_else_is_refused_in_one_line(tmp_path, content, reason):
    for name in ("a.pth", "a.h5", "a.pth.tar"):
        if reason == "is no whole checkpoint" and name == "a.h5":
            continue  # not by that name
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=rf"{name} {reason}") as caught:
            load_backbone(build_backbone("resnet18"), tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("net.caffemodel", "is a model of Caffe"),
        ("model.ckpt.index", "is a part of a TensorFlow checkpoint"),
        ("model.ckpt.data-00000-of-00001", "is a part of a TensorFlow checkpoint"),
    ],
)
def test_a_file_whose_name_alone_says_what_it_is_is_refused_in_one_line(tmp_path, name, reason):
    (tmp_path / name).write_bytes(b"\x0a\x09ResNet-50\xff\xfe" + b"\0" * 200)
    with pytest.raises(WeightsError, match=rf"{name} {reason}: load it there, and write its tensors") as caught:
        load_backbone(build_backbone("resnet18"), tmp_path / name)
    assert "\n" not in str(caught.value)


def test_archives_of_other_things_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", weights=np.ones(3))
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("resnet18.pth", b"weights")
    with tarfile.open(tmp_path / "a.pth.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("resnet18.pth"))
    for name, reason in (
        ("a.npz", "a NumPy archive"),
        ("a.pth", r"a ZIP archive \(of resnet18.pth"),
        ("a.pth.tar", "a packed"),
    ):
        with pytest.raises(WeightsError, match=f"{name} is {reason}"):
            load_backbone(build_backbone("resnet18"), tmp_path / name)


@pytest.mark.parametrize("name", ["model-00002-of-00003.safetensors", "pytorch_model-00001-of-00002.bin"])
def test_one_of_several_files_of_a_model_is_named(resnet, tmp_path, name):
    safetensors.torch.save_file(resnet.state_dict(), tmp_path / name)
    with pytest.raises(WeightsError, match=f"{name} is one of the [23] files of a model[;:] join them"):
        load_backbone(build_backbone("resnet18"), tmp_path / name)
    whole = (tmp_path / name).rename(tmp_path / "model-00001-of-00001.safetensors")
    assert load_backbone(build_backbone("resnet18"), whole).loaded == 120


@pytest.mark.parametrize(
    ("encoder", "file", "beyond"),
    [
        ("resnet18", "resnet34", r"layer1\.2, layer2\.2, layer2\.3 and 4 more beyond it; pass --backbone resnet34"),
        (
            "tu-convnextv2_atto",
            "8 blocks",
            r"stages\.2\.blocks\.6, stages\.2\.blocks\.7 beyond it; choose the",
        ),
        ("tu-vit_tiny_patch16_224", "14 blocks", r"blocks\.12, blocks\.13 beyond it; choose the --backbone"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_deeper_network_is_not_loaded_in_part(tmp_path, encoder, file, beyond, suffix):
    if file.startswith("resnet"):
        state = {f"model.{key}": tensor for key, tensor in getattr(torchvision.models, file)().state_dict().items()}
    elif file == "14 blocks":
        state = timm.create_model("vit_tiny_patch16_224", depth=14).state_dict()
    else:
        state = timm.create_model("convnextv2_atto", depths=(2, 2, 8, 2)).state_dict()
    path = tmp_path / f"deeper{suffix}"
    safetensors.torch.save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    backbone = build_backbone(encoder)
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"is of a deeper network than this encoder: it has {beyond}"):
        load_backbone(backbone, path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())


@pytest.mark.parametrize("name", ["ghostnet_100", "selecsls42"])
def test_stages_that_an_encoder_leaves_off_are_no_deeper_network(tmp_path, name):
    safetensors.torch.save_file(timm.create_model(name).state_dict(), tmp_path / "whole.safetensors")
    report = load_backbone(build_backbone(f"tu-{name}"), tmp_path / "whole.safetensors")
    assert report.loaded == report.total


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            lambda tensor: tensor.clone().flatten().index_fill_(0, torch.tensor([7]), float("nan")).view_as(tensor),
            "NaN",
        ),
        (
            lambda tensor: tensor.clone().flatten().index_fill_(0, torch.tensor([7]), float("inf")).view_as(tensor),
            "NaN",
        ),
        (
            lambda tensor: (tensor * 127).to(torch.int8),
            r"no floating-point weights of 16 or more bits: conv1.weight \(int8\)",
        ),
        (
            lambda tensor: tensor.to(torch.float8_e4m3fn),
            r"no floating-point weights .*: conv1.weight \(float8_e4m3fn\)",
        ),
        (torch.zeros_like, r"weights that are all one value: conv1.weight \(0\)"),
        (torch.ones_like, r"weights that are all one value: conv1.weight \(1\)"),
    ],
    ids=["nan", "infinite", "integers", "8 bits", "zeros", "ones"],
)
def test_weights_of_no_trained_network_are_refused(resnet, tmp_path, damage, reason):
    state = {key: damage(t) if t.is_floating_point() and t.ndim else t for key, t in resnet.state_dict().items()}
    torch.save(state, tmp_path / "bad.pth")
    backbone = build_backbone("resnet18")
    before = backbone.conv1.weight.clone()
    with pytest.raises(WeightsError, match=f"bad.pth holds {reason}"):
        load_backbone(backbone, tmp_path / "bad.pth")
    assert torch.equal(backbone.conv1.weight, before)


def test_one_broken_weight_is_enough_and_is_named(resnet, tmp_path):
    state = {key: tensor.clone() for key, tensor in resnet.state_dict().items()}
    state["layer2.1.bn1.running_var"][3] = float("inf")
    state["fc.weight"][0] = float("nan")  # which is not loaded
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match=r"infinite weights: layer2\.1\.bn1\.running_var;"):
        load_backbone(build_backbone("resnet18"), tmp_path / "bad.pth")


def test_half_precision_and_a_kernel_of_zeros_are_weights(resnet, tmp_path):
    state = {
        key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in resnet.state_dict().items()
    }
    state["layer1.0.conv2.weight"] = torch.zeros_like(state["layer1.0.conv2.weight"])
    torch.save(state, tmp_path / "half.pth")
    backbone = build_backbone("resnet18")
    assert load_backbone(backbone, tmp_path / "half.pth").loaded == 120
    assert torch.equal(backbone.conv1.weight, resnet.conv1.weight.half().float())


def resnet_of_transformers(state: State) -> State:
    """Keys as transformers' ResNetForImageClassification has them, written out one by one."""
    out = {}
    for key, tensor in state.items():
        part, _, kind = key.rpartition(".")
        stem = {"conv1": "convolution", "bn1": "normalization"}
        if part in stem:
            out[f"resnet.embedder.embedder.{stem[part]}.{kind}"] = tensor
        elif part == "fc":
            out[f"classifier.1.{kind}"] = tensor
        else:
            stage, block, *inside = part.split(".")
            layer = f"resnet.encoder.stages.{int(stage[-1]) - 1}.layers.{block}"
            if inside[0] == "downsample":
                out[f"{layer}.shortcut.{('convolution', 'normalization')[int(inside[1])]}.{kind}"] = tensor
            else:
                what = {"conv": "convolution", "bn": "normalization"}[inside[0][:-1]]
                out[f"{layer}.layer.{int(inside[0][-1]) - 1}.{what}.{kind}"] = tensor
    return out


def convnext_of_transformers(state: State) -> State:
    """Keys as transformers' ConvNextForImageClassification and ConvNextV2ForImageClassification have them."""
    parts = {
        "conv_dw": "dwconv", "norm": "layernorm", "mlp.fc1": "pwconv1", "mlp.fc2": "pwconv2", "mlp.grn": "grn",
    }  # fmt: skip
    out = {}
    for key, tensor in state.items():
        part, _, kind = key.rpartition(".")
        if part in ("stem.0", "stem.1"):
            out[f"convnext.embeddings.{('patch_embeddings', 'layernorm')[int(part[-1])]}.{kind}"] = tensor
        elif part.startswith("head"):
            out[f"{'convnext.layernorm' if part == 'head.norm' else 'classifier'}.{kind}"] = tensor
        elif "downsample" in part:
            _, stage, _, number = part.split(".")
            out[f"convnext.encoder.stages.{stage}.downsampling_layer.{number}.{kind}"] = tensor
        else:
            _, stage, _, block, *inside = part.split(".")
            layer = f"convnext.encoder.stages.{stage}.layers.{block}"
            if kind == "gamma":
                out[f"{layer}.layer_scale_parameter"] = tensor
            else:
                theirs = tensor[None, None, None] if inside[-1] == "grn" else tensor
                out[f"{layer}.{parts['.'.join(inside)]}.{kind}"] = theirs
    return out


def dinov2_of_transformers(state: State) -> State:
    """Keys as transformers' Dinov2Model and Dinov2WithRegistersModel have them; its registers follow the positions."""
    names = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "reg_token": "embeddings.register_tokens",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    inner = {
        "attn.proj": "attention.output.dense", "norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2", "ls1": "layer_scale1", "ls2": "layer_scale2",
    }  # fmt: skip
    out = {"embeddings.mask_token": torch.zeros(1, state["cls_token"].shape[-1])}
    for key, tensor in state.items():
        if key in names:
            out[names[key]] = tensor
            continue
        _, block, inside = key.split(".", 2)
        part, _, kind = inside.rpartition(".")
        if part == "attn.qkv":
            for name, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                out[f"encoder.layer.{block}.attention.attention.{name}.{kind}"] = third
        else:
            out[f"encoder.layer.{block}.{inner[part]}.{kind.replace('gamma', 'lambda1')}"] = tensor
    if "reg_token" in state:  # what timm adds to the class token before, they add afterwards
        position = torch.randn_like(out["embeddings.cls_token"])
        out["embeddings.cls_token"] = out["embeddings.cls_token"] - position
        out["embeddings.position_embeddings"] = torch.cat([position, out["embeddings.position_embeddings"]], 1)
    return out


def vit_of_transformers(state: State) -> State:
    """Keys as transformers' ViTModel has them."""
    known = {
        "attention.output.dense": "attention.output.dense", "norm1": "layernorm_before", "norm2": "layernorm_after",
        "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
    }  # fmt: skip
    out = {}
    for key, tensor in dinov2_of_transformers(state).items():
        for theirs, ours in known.items():
            key = re.sub(rf"^(encoder\.layer\.\d+)\.{re.escape(theirs)}\.", rf"\1.{ours}.", key)
        out[f"vit.{key}"] = tensor
    return out


@pytest.mark.parametrize(
    ("model", "encoder", "rename", "options"),
    [
        ("resnet18", "resnet18", resnet_of_transformers, {}),
        ("resnet26", "tu-resnet26", resnet_of_transformers, {}),
        ("convnextv2_atto", "tu-convnextv2_atto", convnext_of_transformers, {}),
        ("convnext_tiny", "tu-convnext_tiny", convnext_of_transformers, {}),
        ("vit_small_patch14_dinov2", "tu-vit_small_patch14_dinov2", dinov2_of_transformers, {"depth": 2}),
        ("vit_small_patch14_reg4_dinov2", "tu-vit_small_patch14_reg4_dinov2", dinov2_of_transformers, {"depth": 2}),
        ("vit_tiny_patch16_224", "tu-vit_tiny_patch16_224", vit_of_transformers, {"depth": 2}),
    ],
)
def test_models_of_transformers_are_read(tmp_path, model, encoder, rename, options):
    torch.manual_seed(3)
    vit = "patch" in model
    source = timm.create_model(model, num_classes=0 if vit else 5, **options)
    state = {key: torch.randn_like(t) if t.is_floating_point() else t for key, t in source.state_dict().items()}
    torch.save(rename(state), tmp_path / "pytorch_model.bin")
    backbone = build_backbone(encoder)
    if vit:
        del backbone.model.blocks[2:]
    report = load_backbone(backbone, tmp_path / "pytorch_model.bin")
    assert report.loaded == report.total and not report.mismatched
    for key, tensor in portable(backbone.state_dict()).items():
        theirs = state[key if key in state else key.replace("_", ".", 1)]
        torch.testing.assert_close(tensor, theirs, rtol=0, atol=1e-6)


def test_a_small_stem_is_centred_when_asked_and_said(resnet, tmp_path):
    small = torch.randn(64, 3, 3, 3)
    torch.save({**resnet.state_dict(), "conv1.weight": small}, tmp_path / "cifar.pth")
    encoder = build_backbone("resnet18")
    report = load_backbone(encoder, tmp_path / "cifar.pth")
    assert str(report).endswith(
        "of another shape: conv1.weight (64, 3, 3, 3) for (64, 3, 7, 7); "
        "--adapt stem would fit conv1.weight (64, 3, 3, 3); left out: fc"
    )
    report = load_backbone(encoder, tmp_path / "cifar.pth", adapt=["stem"])
    assert report.loaded == report.total
    assert str(report).count("3x3 stem centred in 7x7") == 1
    image = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(
        nn.functional.conv2d(image, encoder.conv1.weight, padding=3), nn.functional.conv2d(image, small, padding=1)
    )


@pytest.mark.parametrize(("theirs", "ours"), [(3, 12), (12, 3), (1, 3), (3, 1)])
def test_other_bands_are_fitted_when_asked(resnet, tmp_path, theirs, ours):
    kernel = torch.randn(64, 1, 7, 7).expand(64, theirs, 7, 7).clone()  # all bands alike
    torch.save({**resnet.state_dict(), "conv1.weight": kernel}, tmp_path / "bands.pth")
    encoder = build_backbone("resnet18", in_channels=ours)
    bands = RGB if ours == 3 else tuple(f"infrared {number}" for number in range(ours))
    assert "--adapt bands would fit conv1.weight" in str(load_backbone(encoder, tmp_path / "bands.pth", bands=bands))
    report = load_backbone(encoder, tmp_path / "bands.pth", adapt=["bands"], bands=bands)
    assert report.loaded == report.total and f"adapted from {theirs} bands to {ours}" in str(report)
    grey = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(
        nn.functional.conv2d(grey.expand(1, ours, 16, 16), encoder.conv1.weight),
        nn.functional.conv2d(grey.expand(1, theirs, 16, 16), kernel),
        rtol=1e-3,
        atol=1e-3,
    )
