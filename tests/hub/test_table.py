"""The table of published backbones, and addresses of the Hub."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import segmentation_models_pytorch as smp

from simclrseg.errors import UnknownName, UsageError
from simclrseg.hub.imagenet import IMAGENET
from simclrseg.hub.table import NAMESPACE_VARIABLE, PUBLISHED, TIMM, TIMM_PREFIX, find, parse_address
from simclrseg.models import BACKBONES
from simclrseg.models.backbones import ALIASES
from simclrseg.runs.names import WEIGHTS


def test_importing_the_table_imports_nothing_heavy():
    heavy = {"huggingface_hub", "torch", "numpy", "safetensors"}
    code = f"import sys, simclrseg.hub.table, simclrseg.hub.fetch; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_entry_names_an_encoder_of_ours_and_a_file_we_can_read(name):
    entry = PUBLISHED[name]
    assert name == entry.name
    assert entry.encoder in BACKBONES or entry.encoder.startswith(TIMM_PREFIX)
    assert entry.file.endswith(WEIGHTS)
    said = not entry.converted or entry.settings is not None  # by a file: ours, or one beside it
    assert len(entry.mean) == len(entry.std) == (0 if said else entry.in_channels)
    assert entry.make.startswith("simclrseg pretrain ")
    assert entry.source().file == entry.file
    assert entry.uploaded or entry.namespace is None


def test_imagenet_weights_are_those_of_smp():
    theirs = {
        encoder: (settings["imagenet"]["repo_id"], settings["imagenet"]["revision"])
        for encoder, entry in smp.encoders.encoders.items()
        if "imagenet" in (settings := entry["pretrained_settings"])
    }
    ours = {encoder: find("imagenet", encoder=encoder).source() for encoder in IMAGENET}
    assert {encoder: (source.repo_id, source.revision) for encoder, source in ours.items()} == theirs


def test_an_encoder_without_imagenet_weights_is_a_usage_error():
    with pytest.raises(UsageError, match="nobody publishes imagenet weights for backbone 'cnn'"):
        find("imagenet", encoder="cnn")
    with pytest.raises(UsageError, match="timm publishes no weights for backbone 'tu-vit_giant_patch14_224'"):
        find("imagenet", encoder="tu-vit_giant_patch14_224")


@pytest.mark.parametrize("encoder", TIMM)
def test_what_is_noted_of_timms_weights_is_what_timm_says(encoder):
    noted, asked = find("imagenet", encoder=encoder), find("imagenet", encoder=ALIASES[encoder])
    assert replace(noted, encoder="") == replace(asked, encoder="")


def test_only_of_ours_it_is_said_that_one_can_make_the_same():
    assert PUBLISHED["pets"].source().remedy.startswith("make one with `simclrseg pretrain")
    assert PUBLISHED["simclr-imagenet"].source().remedy.startswith("train one of your own with `simclrseg pretrain")


def test_an_entry_has_one_encoder():
    assert find("pets", encoder="resnet50") is PUBLISHED["pets"]
    with pytest.raises(UsageError, match="pets is a resnet50, not a resnet18: leave --backbone out"):
        find("pets", encoder="resnet18")


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="'petz': did you mean 'pets'"):
        find("petz")


def test_the_namespace_of_our_own_can_be_changed(monkeypatch):
    monkeypatch.delenv(NAMESPACE_VARIABLE, raising=False)
    entry = PUBLISHED["pets"]
    assert entry.source().repo_id == "simclrseg/resnet50-simclr-pets"
    monkeypatch.setenv(NAMESPACE_VARIABLE, "somebody")
    assert entry.source().repo_id == "somebody/resnet50-simclr-pets"
    assert entry.source("else").repo_id == "else/resnet50-simclr-pets"
    assert PUBLISHED["imagenet"].source("else").repo_id == "smp-hub/resnet50.imagenet"
    with pytest.raises(UsageError, match="'a/b' cannot be a namespace of the Hub: check --namespace"):
        entry.source("a/b")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf:owner/repo", ("owner/repo", None, "main")),
        ("hf:owner/repo/model.safetensors", ("owner/repo", "model.safetensors", "main")),
        ("hf:owner/repo/checkpoints/last.ckpt@v1.0", ("owner/repo", "checkpoints/last.ckpt", "v1.0")),
        ("hf:owner/repo@refs/pr/1", ("owner/repo", None, "refs/pr/1")),
        ("hf:smp-hub/resnet18.imagenet", ("smp-hub/resnet18.imagenet", None, "main")),
    ],
)
def test_an_address_has_a_repository_and_perhaps_a_file_and_a_revision(text, parts):
    source = parse_address(text)
    assert (source.repo_id, source.file, source.revision) == parts


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:repo",
        "hf:owner/",
        "hf:a b/c",
        "hf:o/r/../../x.pth",
        "hf:o/r//x",
        "hf:o/r@",
        "hf:a--b/c",
        "hf:a/b.git",
        "hf:a-/b",
        "hf:é/b",  # which huggingface_hub took until 2.0
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match=r"no address of the Hub: write hf:owner/repo"):
        parse_address(text)


@pytest.mark.parametrize("name", ["a/b", "a-b/c.d", "a--b/c", "a/b.git", "a/-b", "a/b.", "a..b/c", "a/" + "b" * 99])
def test_what_a_repository_may_be_called_is_what_huggingface_hub_says(name):
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        with pytest.raises(UsageError):
            parse_address(f"hf:{name}")
    else:
        assert parse_address(f"hf:{name}").repo_id == name


@pytest.mark.parametrize("revision", ["../../x", "/etc", "a/../../b"])
def test_a_revision_does_not_lead_out_of_the_cache(revision):
    with pytest.raises(UsageError, match="no address"):
        parse_address(f"hf:o/r@{revision}")


def test_nobody_is_told_to_make_weights_of_imagenet_by_simclr():
    assert find("imagenet", encoder="resnet18").source().remedy == "name a file of such weights with --pretrained"
