"""pull: the list, what is fetched and converted, what is only planned, and that a cached name costs nothing."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save
from torch import nn

from simclrseg.commands.pull import pull
from simclrseg.config.pull import PullConfig
from simclrseg.errors import HubError, OutputError, UnknownName, UsageError, WeightsError
from simclrseg.hub.imagenet import IMAGENET
from simclrseg.hub.table import NAMESPACE_VARIABLE, PUBLISHED, find
from simclrseg.knobs.parsing import parse_config
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import load_backbone, read_metadata
from simclrseg.runs.names import BACKBONE_FILE
from simclrseg.weights.shipped import PETS

OURS = PUBLISHED["pets"].source("me").repo_id
SIMCLR = PUBLISHED["simclr-imagenet"]


def pulled(name: str | None = None, **knobs: Any) -> Any:
    source = {"name": name, **{key: knobs.pop(key) for key in ("backbone", "namespace", "token") if key in knobs}}
    return pull(parse_config(PullConfig, {"source": source, "download": knobs}))


@pytest.fixture(scope="module")
def encoder() -> nn.Module:
    torch.manual_seed(3)
    return build_backbone("resnet18")


@pytest.fixture(scope="module")
def weights(encoder) -> bytes:
    """A backbone of ours."""
    metadata = ModelMetadata(task="backbone", encoder="resnet18", image_size=32, dataset="cats_vs_dogs")
    return save(encoder.state_dict(), {"format": "pt", **metadata.to_strings()})


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture
def ours(fake_hub, weights, monkeypatch) -> str:
    """The commit of somebody's copy of ours, whose namespace is set."""
    monkeypatch.setenv(NAMESPACE_VARIABLE, "me")
    return fake_hub.add(OURS, {BACKBONE_FILE: weights})


@pytest.fixture
def imagenet(fake_hub, encoder) -> dict[str, torch.Tensor]:
    """smp's file for a ResNet-18, which says nothing of itself."""
    state = {**encoder.state_dict(), "fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    files = {
        "model.safetensors": save(state),
        "config.json": b'{"mean": [51, 102, 0], "std": [25.5, 51, 255], "input_range": [0, 255]}',
    }
    fake_hub.add("smp-hub/resnet18.imagenet", files, commit=IMAGENET["resnet18"])
    return encoder.state_dict()


def test_the_list_makes_no_request_and_says_what_is_cached(fake_hub, ours, monkeypatch):
    monkeypatch.delenv(NAMESPACE_VARIABLE)
    rows = {row["name"]: row for row in pulled().published}
    assert rows.keys() == {PETS.name, *PUBLISHED}
    assert rows["pets"]["status"] == "not yet published"
    assert rows["pets"]["made with"] == "simclrseg pretrain --config simclr_pets"
    assert rows["imagenet"]["status"] == "published"
    assert fake_hub.requests == []
    monkeypatch.setenv(NAMESPACE_VARIABLE, "me")
    pulled("pets")
    assert {row["name"]: row["status"] for row in pulled().published}["pets"] == "cached"
    assert pulled(namespace="you").published[0]["status"] == "not known"


def test_one_of_ours_is_fetched_as_it_is_and_the_next_command_is_named(fake_hub, ours, weights, monkeypatch):
    monkeypatch.delenv(NAMESPACE_VARIABLE)
    for knobs in ({}, {"dry_run": True}, {"offline": True}, {"namespace": "simclrseg"}):
        with pytest.raises(HubError, match=r"^nobody has published pets yet: make one with `simclrseg pretrain"):
            pulled("pets", **knobs)
    assert fake_hub.requests == []
    result = pulled("pets", namespace="me")
    assert result.next == f"simclrseg finetune --pretrained {result.file}", "pets would be another owner's"
    monkeypatch.setenv(NAMESPACE_VARIABLE, "me")
    assert pulled("pets").next == "simclrseg finetune --pretrained pets"
    with open(result.file, "rb") as file:
        assert file.read() == weights


def test_foreign_weights_become_a_backbone_of_ours(fake_hub, imagenet, caplog):
    caplog.set_level(logging.INFO, "simclrseg")
    result = pulled("imagenet", backbone="resnet18")
    assert "converted: loaded 120 of 120 tensors; left out: fc" in caplog.messages
    assert result.next.endswith(
        "labelled/masks, then: simclrseg finetune --dataset labelled --pretrained imagenet --backbone resnet18"
    )
    metadata = read_metadata(result.file)
    assert (metadata.encoder, metadata.dataset) == ("resnet18", "imagenet")
    assert metadata.mean == (0.2, 0.4, 0.0) and metadata.std == (0.1, 0.2, 1.0)
    assert metadata.pretrained == f"smp-hub/resnet18.imagenet/model.safetensors@{IMAGENET['resnet18']}"
    state = load_file(result.file)
    assert state.keys() == imagenet.keys() and all(torch.equal(state[key], imagenet[key]) for key in state)
    fake_hub.requests.clear()
    assert pulled("imagenet", backbone="resnet18", offline=True) == result
    assert fake_hub.requests == []


def test_what_smp_itself_has_cached_is_enough(fake_hub, imagenet):
    import huggingface_hub

    for name in ("model.safetensors", "config.json"):
        huggingface_hub.hf_hub_download("smp-hub/resnet18.imagenet", name, revision=IMAGENET["resnet18"])
    fake_hub.requests.clear()
    assert read_metadata(pulled("imagenet", backbone="resnet18").file).encoder == "resnet18"
    assert fake_hub.requests == []


def test_the_published_simclr_checkpoint_is_converted(fake_hub):
    torch.manual_seed(4)
    module = build_backbone("resnet50")
    state = {**module.state_dict(), "fc.weight": torch.zeros(10, 2048), "fc.bias": torch.zeros(10)}
    fake_hub.add(SIMCLR.source().repo_id, {SIMCLR.file: pickled({"state_dict": state})})
    result = pulled("simclr-imagenet")
    metadata = read_metadata(result.file)
    assert (metadata.encoder, metadata.method, metadata.epochs) == ("resnet50", "simclr", 1000)
    assert metadata.mean == (0, 0, 0) and metadata.std == (1, 1, 1)
    assert torch.equal(load_file(result.file)["conv1.weight"], module.conv1.weight)


def test_a_published_file_that_lacks_a_tensor_is_refused(fake_hub, encoder):
    state = {key: tensor for key, tensor in encoder.state_dict().items() if key != "conv1.weight"}
    files = {"model.safetensors": save(state), "config.json": b'{"mean": [0, 0, 0], "std": [1, 1, 1]}'}
    fake_hub.add("smp-hub/resnet18.imagenet", files, commit=IMAGENET["resnet18"])
    with pytest.raises(WeightsError, match="at least 100% must"):
        pulled("imagenet", backbone="resnet18")


def test_an_address_gives_a_file_as_it_is_and_a_pickle_as_safetensors(fake_hub, encoder, weights):
    fake_hub.add("owner/ours", {BACKBONE_FILE: weights})
    result = pulled("hf:owner/ours")
    assert result.next == f"simclrseg finetune --pretrained {result.file}"
    with pytest.raises(UsageError, match="is a resnet18, not a resnet50: leave --backbone out"):
        pulled("hf:owner/ours", backbone="resnet50")

    fake_hub.add("owner/theirs", {"last.ckpt": pickled({"state_dict": encoder.state_dict(), "epoch": 1})})
    result = pulled("hf:owner/theirs")
    assert result.next.endswith(".converted.safetensors --backbone NAME")
    assert torch.equal(load_file(result.file)["state_dict.conv1.weight"], encoder.conv1.weight)
    result = pulled("hf:owner/theirs/last.ckpt@main", backbone="resnet18")
    assert read_metadata(result.file).encoder == "resnet18"
    fake_hub.requests.clear()
    assert pulled("hf:owner/theirs/last.ckpt@main", backbone="resnet18") == result
    assert fake_hub.requests == []


def test_a_copy_is_written_where_it_is_asked_for_and_replaces_nothing(fake_hub, ours, weights, tmp_path):
    result = pulled("pets", output=str(tmp_path / "new weights"))
    copy = tmp_path / "new weights" / "pets.safetensors"
    assert result.file == copy and copy.read_bytes() == weights
    assert result.next == f"simclrseg finetune --pretrained '{copy}'"
    copy.write_bytes(b"mine")
    fake_hub.requests.clear()
    with pytest.raises(UsageError, match=r"pets\.safetensors exists: pass --force"):
        pulled("pets", output=str(copy.parent))
    assert copy.read_bytes() == b"mine" and fake_hub.requests == []
    pulled("pets", output=str(copy.parent), force=True)
    assert copy.read_bytes() == weights


def test_a_fetch_that_fails_leaves_no_folder_for_its_copy(fake_hub, tmp_path):
    with pytest.raises(HubError, match="nobody has published"):
        pulled("pets", output=str(tmp_path / "new" / "weights"))
    assert not (tmp_path / "new").exists()


def test_a_copy_that_cannot_be_written_is_refused_before_anything_is_fetched(fake_hub, ours, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        pulled("pets", output=str(tmp_path / "file" / "weights"))
    assert fake_hub.requests == []


def test_checkpoints_of_one_name_in_several_folders_are_told_apart(fake_hub, encoder):
    other = {key: tensor + 1 for key, tensor in encoder.state_dict().items()}
    files = {"a/last.ckpt": encoder.state_dict(), "b/last.ckpt": other, "b/last.pth": encoder.state_dict()}
    fake_hub.add("owner/several", {name: pickled(state) for name, state in files.items()})
    for name, state in files.items():
        result = pulled(f"hf:owner/several/{name}")
        assert torch.equal(load_file(result.file)["conv1.weight"], state["conv1.weight"]), name


@pytest.mark.parametrize("name", ["tu-resnet18", "tu-vit_tiny_patch16_224"])
def test_timms_encoders_have_timms_weights(fake_hub, name):
    torch.manual_seed(5)
    model = timm.create_model(name.removeprefix("tu-"), num_classes=3)
    entry = find("imagenet", encoder=name)
    assert entry.source().repo_id.startswith(f"timm/{name.removeprefix('tu-')}.")
    fake_hub.add(entry.source().repo_id, {entry.file: save(model.state_dict())})
    result = pulled("imagenet", backbone=name)
    metadata = read_metadata(result.file)
    assert (metadata.encoder, metadata.mean) == (name, model.pretrained_cfg["mean"])
    encoder = build_backbone(name)
    assert load_backbone(encoder, result.file).total == len(encoder.state_dict())
    fake_hub.requests.clear()
    assert pulled("imagenet", backbone=name, offline=True) == result and fake_hub.requests == []


def test_a_dry_run_says_what_and_how_much_and_fetches_nothing(fake_hub, ours, weights):
    plan = pulled("pets", dry_run=True).facts()
    assert plan["would fetch"] == f"{OURS}/{BACKBONE_FILE}"
    assert (plan["revision"], plan["bytes"]) == (ours, len(weights))
    assert not fake_hub.gets()
    pulled("pets")
    assert pulled("pets", dry_run=True).facts()["would fetch"] == "nothing, it is here"


def test_unknown_names_and_knobs_that_contradict_are_usage_errors(fake_hub):
    with pytest.raises(UnknownName, match="did you mean 'pets'"):
        pulled("petz")
    with pytest.raises(UsageError, match="pets is a resnet50"):
        pulled("pets", backbone="resnet18")
    with pytest.raises(UsageError, match="leave one out"):
        pulled("pets", force=True, offline=True)
    assert fake_hub.requests == []


def test_a_cached_pinned_name_makes_no_request_and_needs_no_torch(fake_hub, imagenet):
    pulled("imagenet", backbone="resnet18")
    fake_hub.close()
    code = (
        "import sys; from simclrseg.cli.app import main\n"
        "try: main(['pull', 'imagenet', '--backbone', 'resnet18'])\n"
        "finally: print(*{'torch', 'numpy', 'safetensors'} & set(sys.modules), file=sys.stderr)"
    )
    environment = {**os.environ, "HF_HOME": constants.HF_HOME, "HF_ENDPOINT": fake_hub.url}
    environment.pop("HF_HUB_CACHE", None)
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    after = os.times()
    assert done.returncode == 0, done.stderr
    assert "converted.safetensors" in done.stdout
    assert done.stderr.splitlines()[-1] == ""
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert seconds < 1, "0.3 s where nothing else runs"
