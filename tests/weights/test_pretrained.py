"""What --pretrained means: the order in which names are looked up, and what is said when nothing bears one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from simclrseg.config.pretrain import command_that_makes
from simclrseg.errors import HubError, RunError, UsageError
from simclrseg.hub.table import NAMESPACE_VARIABLE, PUBLISHED
from simclrseg.metadata import ModelMetadata
from simclrseg.models.weights import save_weights
from simclrseg.runs.claim import claim
from simclrseg.runs.names import BACKBONE_FILE, CHECKPOINT, MODEL_FILE
from simclrseg.runs.run import Run, finish, record_facts
from simclrseg.weights.find import PRETRAINED_FILE, Pretrained, began_with, find_pretrained, recorded_file

METADATA = ModelMetadata(task="backbone", encoder="resnet18", image_size=32, epochs=7)


def finished(root, name):
    run = claim(root, "pretrain", name)
    save_weights(run.folder / BACKBONE_FILE, {"weight": torch.zeros(1)}, METADATA)
    finish(run)
    return run


def test_none_is_no_file(tmp_path):
    found = find_pretrained("none", root=tmp_path)
    assert (found.label, found.file) == ("none", None)


def test_a_name_is_a_run_before_it_is_published(tmp_path, fake_hub, caplog):
    run = finished(tmp_path, "pets")
    with caplog.at_level(logging.INFO, logger="simclrseg"):
        found = find_pretrained("pets", root=tmp_path)
    assert found.file == run.folder / BACKBONE_FILE and found.label == "pets"
    assert str(found.file) in caplog.text and "7 epochs, finished just now" in caplog.text
    assert fake_hub.requests == []


@pytest.mark.parametrize("name", [".", "./", "../mine", "{run}"])
def test_a_run_is_found_by_its_folder_wherever_one_is_and_keeps_its_name(tmp_path, monkeypatch, name):
    run = finished(tmp_path, "mine")
    monkeypatch.chdir(run.folder)
    found = find_pretrained(name.format(run=run.folder), root=tmp_path / "none")
    assert found.label == "mine" and found.file.samefile(run.folder / BACKBONE_FILE)
    monkeypatch.chdir(run.folder.parent)
    assert find_pretrained("mine", root=tmp_path / "none").label == "mine"


@pytest.mark.parametrize(("epochs", "said"), [(1, ", 1 epoch, finished"), (20, ", 20 epochs, finished")])
def test_how_long_a_run_was_trained_is_said(tmp_path, caplog, epochs, said):
    save_weights(
        finished(tmp_path, "pets").folder / BACKBONE_FILE,
        {"weight": torch.zeros(1)},
        METADATA.model_copy(update={"epochs": epochs}),
    )
    with caplog.at_level(logging.INFO, logger="simclrseg"):
        find_pretrained("pets", root=tmp_path)
    assert said in caplog.text


def test_only_the_weights_of_a_run_are_said_to_be_finished_or_not(tmp_path, caplog):
    folder = tmp_path / "fetched"
    folder.mkdir()
    save_weights(folder / BACKBONE_FILE, {"weight": torch.zeros(1)}, METADATA)
    with caplog.at_level(logging.INFO, logger="simclrseg"):
        find_pretrained(f"{folder}/", root=tmp_path)
        record_facts(Run(folder), kind="pretrain")
        find_pretrained(f"{folder}/", root=tmp_path)
    told = f"pretrained weights: {folder / BACKBONE_FILE}, 7 epochs"
    assert caplog.messages == [told, f"{told}, of a run that was interrupted"]


def test_an_unfinished_run_is_never_replaced_by_a_download(tmp_path, fake_hub):
    run = claim(tmp_path, "pretrain", "pets")
    record_facts(run, torch="2.15")
    checkpoint = run.folder / CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    with pytest.raises(RunError, match="--resume pets"):
        find_pretrained("pets", root=tmp_path)
    assert fake_hub.requests == []


def test_a_published_name_is_fetched_when_no_run_bears_it(tmp_path, fake_hub, monkeypatch):
    monkeypatch.setenv(NAMESPACE_VARIABLE, "me")
    fake_hub.add(PUBLISHED["pets"].source().repo_id, {BACKBONE_FILE: b"weights"})
    found = find_pretrained("pets", root=tmp_path)
    assert found.label == "pets" and found.file.read_bytes() == b"weights"


def test_of_what_nobody_has_uploaded_it_is_said_how_to_make_it_where_it_is_looked_for(tmp_path, fake_hub):
    remedy = rf"make one with `simclrseg pretrain .* --runs {tmp_path}`$"
    with pytest.raises(HubError, match=rf"pets: no such run in .*, and nobody has published pets yet: {remedy}"):
        find_pretrained("pets", root=tmp_path)
    assert fake_hub.requests == []


def test_a_run_folder_and_a_file_are_taken_as_they_are(tmp_path):
    run = finished(tmp_path, "cats")
    assert find_pretrained(str(run.folder), root=tmp_path / "elsewhere").file == run.folder / BACKBONE_FILE
    assert (
        find_pretrained(str(run.folder / BACKBONE_FILE), root=tmp_path / "elsewhere").file == run.folder / BACKBONE_FILE
    )


def test_no_such_run_names_the_folder_searched_and_the_nearest(tmp_path):
    finished(tmp_path, "cats")
    with pytest.raises(RunError, match=r"cat: no such run in .*pretrain.* did you mean 'cats'"):
        find_pretrained("cat", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "preset"),
    [("voc-reconstruction", "voc_reconstruction_resunet"), ("bigearthnet-vit", "bigearthnet_simclr_vit")],
)
def test_a_run_that_a_preset_makes_is_answered_with_its_command(tmp_path, name, preset):
    with pytest.raises(RunError) as error:
        find_pretrained(name, root=tmp_path, make=command_that_makes)
    assert str(error.value) == (
        f"--pretrained {name}: no such run in {tmp_path / 'pretrain'}, and nothing is published as {name!r}; "
        f"make it with `simclrseg pretrain --config {preset} --runs {tmp_path}`"
    )


@pytest.mark.parametrize(("name", "preset"), [("pets", "simclr_pets"), ("cifar", "simclr_cifar10")])
def test_so_is_one_that_is_to_be_published(tmp_path, fake_hub, name, preset):
    with pytest.raises(HubError) as error:
        find_pretrained(name, root=tmp_path)
    assert str(error.value).startswith(f"--pretrained {name}: no such run in {tmp_path / 'pretrain'}, and nobody has ")
    assert str(error.value).endswith(f": make one with `simclrseg pretrain --config {preset} --runs {tmp_path}`")
    assert command_that_makes(name) == PUBLISHED[name].make == f"simclrseg pretrain --config {preset}"


@pytest.mark.parametrize("name", ["no.safetensors", "./no/folder", "no/folder.pth"])
def test_a_path_that_is_not_there_is_said_so(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        find_pretrained(name, root=tmp_path)


def test_a_folder_without_weights_is_said_so(tmp_path):
    with pytest.raises(RunError, match=r"holds no backbone\.safetensors"):
        find_pretrained(f"{tmp_path}/", root=tmp_path)


def test_an_address_of_the_hub_is_fetched(tmp_path, fake_hub):
    fake_hub.add("owner/repo", {"last.ckpt": b"weights"})
    found = find_pretrained("hf:owner/repo/last.ckpt", root=tmp_path)
    assert found.label == "repo" and found.file.read_bytes() == b"weights"
    with pytest.raises(UsageError, match="no address of the Hub"):
        find_pretrained("hf:repo", root=tmp_path)


def finetuned(root, **facts):
    run = claim(root, "finetune", "a")
    record_facts(run, **facts)
    return run


def test_a_run_knows_the_weights_that_it_began_with_when_their_name_means_others(tmp_path):
    root = tmp_path / "runs"
    first = finished(root, "pets")
    run = finetuned(root, **{PRETRAINED_FILE: recorded_file(find_pretrained("pets", root=root), None)})
    second = finished(root, "pets")
    newest = find_pretrained("pets", root=root)
    assert newest.file.parent == second.folder
    assert began_with(run, "pets", root=root) == first.folder / BACKBONE_FILE
    assert recorded_file(newest, run) == str(first.folder / BACKBONE_FILE)  # it is resumed
    moved = root.rename(tmp_path / "moved")
    found = began_with(Run(moved / "finetune" / "a"), "pets", root=moved)
    assert found == moved / "pretrain" / "pets" / BACKBONE_FILE


def test_weights_that_were_deleted_or_trained_anew_are_no_longer_those(tmp_path):
    file = tmp_path / "pretrain" / "pets" / BACKBONE_FILE
    run = finetuned(tmp_path, started="2020-01-01T00:00:00+00:00", **{PRETRAINED_FILE: str(file)})
    assert began_with(run, "pets", root=tmp_path) is None
    finished(tmp_path, "pets")
    assert file.is_file() and began_with(run, "pets", root=tmp_path) is None


def test_of_an_older_run_a_name_is_what_it_was_when_the_run_started(tmp_path):
    first, second = finished(tmp_path, "resnet18-v1.5"), finished(tmp_path, "resnet18-v1.5")
    record_facts(first, finished="2020-01-01T00:00:00.000000+00:00")
    record_facts(second, finished="2020-03-01T00:00:00.000000+00:00")
    run = finetuned(tmp_path, started="2020-02-01T00:00:00+00:00")
    assert began_with(run, "resnet18-v1.5", root=tmp_path) == first.folder / BACKBONE_FILE
    assert began_with(run, str(first.folder), root=tmp_path) == first.folder / BACKBONE_FILE
    assert began_with(run, "cats", root=tmp_path) is None


@pytest.mark.parametrize(("name", "label"), [("a.pth.tar", "a"), ("b.v2.pth", "b.v2"), ("c.h5", "c"), ("d.npz", "d")])
def test_a_file_at_hand_is_no_name_of_a_run_whatever_it_holds(tmp_path, monkeypatch, name, label):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"weights")
    found = find_pretrained(name, root=tmp_path)
    assert found.file == Path(name) and found.label == label


def test_a_folder_of_another_tool_names_a_file_that_may_be_meant(tmp_path):
    for name in ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(RunError, match=r"holds no backbone\.safetensors; name the file, as .*model-00001-of-00002"):
        find_pretrained(str(tmp_path), root=tmp_path)


def test_a_file_of_the_name_none_is_a_start():
    assert Pretrained("none", None).from_scratch and not Pretrained("none", Path("none.pth")).from_scratch


def test_a_fine_tuned_run_of_that_name_is_pointed_out_and_can_be_started_from(tmp_path):
    run = claim(tmp_path, "finetune", "mine")
    metadata = ModelMetadata(task="segmentation", encoder="cnn", image_size=32)
    save_weights(run.folder / MODEL_FILE, {"a": torch.zeros(1)}, metadata)
    with pytest.raises(RunError, match=rf"'mine'; name the folder of the fine-tuned run .*, {run.folder}$"):
        find_pretrained("mine", root=tmp_path)
    assert find_pretrained(str(run.folder), root=tmp_path).file == run.folder / MODEL_FILE
