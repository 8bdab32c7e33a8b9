"""Checkpoints of other tools: every layout loads the same encoder, and no pickle runs anything."""

from __future__ import annotations

import argparse
import functools
import os
import pickle
import subprocess
import sys
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
from simclrseg.models.weights import load_backbone, read_metadata
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


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
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


def test_positions_that_are_no_square_stay_random_and_are_said(tmp_path):
    encoder = ViTEncoder("vit_tiny_patch16_224")
    state = {**encoder.model.state_dict(), "pos_embed": torch.zeros(1, 198, 192)}
    torch.save(state, tmp_path / "distilled.pth")
    assert load_backbone(encoder, tmp_path / "distilled.pth").mismatched == [
        "pos_embed (1, 198, 192) for (1, 197, 192)"
    ]


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


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_a_pickle_that_would_run_code_does_not_run_it(resnet, tmp_path, kind):
    path, mark = tmp_path / "evil.ckpt", tmp_path / "mark"
    content = {"state_dict": resnet.state_dict(), "callbacks": Evil(mark)}
    if kind == "plain":
        path.write_bytes(pickle.dumps({"callbacks": Evil(mark)}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(
        WeightsError, match=r"evil\.ckpt is a pickle .*refused.*torch\.save\(model\.state_dict"
    ) as caught:
        load_backbone(build_backbone("resnet18"), path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)
    if kind != "plain":
        assert "asks for posix.system" in str(caught.value)
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists(), "the test would not see it"


class Call:
    """Calls a function where it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize(
    "disguise",
    [
        lambda code: Call(exec, code),
        lambda code: Call(eval, f"exec({code!r})"),
        lambda code: Call(functools.partial, Call(exec, code)),
        lambda code: Call(subprocess.call, [sys.executable, "-c", code]),
        lambda code: Call(np._core.multiarray.scalar, np.dtype("O"), pickle.dumps(Call(exec, code))),
        lambda code: argparse.Namespace(inside=Call(exec, code)),
    ],
    ids=["exec", "eval", "partial", "subprocess", "numpy", "namespace"],
)
def test_no_disguise_makes_a_pickle_run(resnet, tmp_path, disguise, suffix):
    path, mark = tmp_path / f"evil{suffix}", tmp_path / "mark"
    code = f"open({str(mark)!r}, 'w').close()"
    torch.save({"state_dict": resnet.state_dict(), "x": disguise(code)}, path)
    with pytest.raises(WeightsError, match="refused" if suffix != ".safetensors" else "under another name"):
        load_backbone(build_backbone("resnet18"), path)
    assert not mark.exists()


def test_a_pickled_module_is_refused_by_its_class(resnet, tmp_path):
    torch.save(resnet, tmp_path / "module.pt")
    with pytest.raises(WeightsError, match=r"asks for torchvision\.models\.resnet\.ResNet"):
        load_backbone(build_backbone("resnet18"), tmp_path / "module.pt")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n", "git lfs pull"),
        (b"PK\x03\x04" + b"\0" * 100, "is no whole checkpoint"),
        (b"\x80\x02garbage", "pickle"),
    ],
)
def test_a_file_that_is_something_else_is_refused_in_one_line(tmp_path, content, reason):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"a\.pth .*{reason}") as caught:
        load_backbone(build_backbone("resnet18"), tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "script.pt")
    with pytest.raises(WeightsError, match="is a TorchScript program"):
        load_backbone(build_backbone("resnet18"), tmp_path / "script.pt")


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
