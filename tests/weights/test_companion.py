"""What weights are fine-tuned on where the user names nothing, and what is said where nothing follows."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.datasets import ENTRIES
from simclrseg.errors import DataError, HubError, UsageError
from simclrseg.knobs.parsing import parse_config
from simclrseg.runs.claim import claim
from simclrseg.runs.run import finish
from simclrseg.targets import TARGETS
from simclrseg.weights.companion import companion_of, following, labelled_set
from tests.folders import write


@pytest.mark.parametrize("name", ENTRIES)
def test_every_dataset_has_a_companion_that_can_be_opened_for_a_task(name):
    companion = ENTRIES[name].companion
    assert companion.dataset in ENTRIES and companion.task in TARGETS
    assert ENTRIES[companion.dataset].companion == companion, "weights that go on with it stay with it"


@pytest.mark.parametrize(
    ("pretrained_on", "dataset"),
    [
        ("cats_vs_dogs", "oxford_pets"),
        ("voc+cats_vs_dogs", "voc"),
        ("photos", None),
        ("cats_vs_dogs+photos", None),
        ("photos/shapes+more", None),
        ("hf:owner/cats", None),
        ("imagenet", None),
        ("", None),
    ],
)
def test_only_named_sets_have_a_companion_and_the_first_decides(pretrained_on, dataset):
    companion = companion_of(pretrained_on)
    assert (companion and companion.dataset) == dataset


def test_what_follows_is_a_command_or_what_to_make_before_it():
    assert (
        str(following("pets", "cats_vs_dogs", options=" --runs r")) == "simclrseg finetune --pretrained pets --runs r"
    )
    assert str(following("cifar", "cifar10")) == "simclrseg finetune --task classify --pretrained cifar"
    assert str(following("pets", "cats_vs_dogs", decoder=True)).endswith("--pretrained pets --init-decoder")
    assert "--init-decoder" not in str(following("cifar", "cifar10", decoder=True))  # a classifier has none
    assert str(following("photos", "my photos/")) == (
        "put labelled images into labelled/images and labelled/masks, then: "
        "simclrseg finetune --dataset labelled --pretrained photos"
    )
    assert following("f", "my photos/").markdown() == (
        "Put labelled images into labelled/images and labelled/masks, then:\n\n"
        "    simclrseg finetune --dataset labelled --pretrained f"
    )


def configured(**sections) -> FinetuneConfig:
    return parse_config(FinetuneConfig, sections)


def test_a_dataset_that_is_named_stays_and_else_the_companion_is_taken(tmp_path):
    from simclrseg.commands.finetune import finetune

    write(tmp_path / "mine" / "0.png", np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(DataError, match="mine holds no masks"):  # and not that the weights have no companion
        finetune(configured(data={"dataset": f"{tmp_path}/mine"}))
    assert labelled_set("pets", "cats_vs_dogs", "segment") == "oxford_pets"
    assert labelled_set("cifar", "cifar10", "classify") == "cifar10"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"pretrained": "none"}, "none does not say what to fine-tune on: name it with --dataset, .* and masks/, or"),
        ({"pretrained": "none", "task": "classify"}, "with --dataset, a folder with one folder a class, or"),
        ({"pretrained": "imagenet"}, "imagenet does not say what to fine-tune on"),
        ({"pretrained": "simclr-imagenet"}, "simclr-imagenet does not say what to fine-tune on"),
        ({"pretrained": "cifar"}, "cifar is fine-tuned on cifar10, with --task classify: pass that, or name other"),
    ],
)
def test_starts_that_nothing_belongs_to_are_refused_before_anything_is_fetched(tmp_path, fake_hub, model, says):
    from simclrseg.commands.finetune import finetune

    with pytest.raises(UsageError, match=says):
        finetune(configured(model=model, console={"runs": str(tmp_path)}))
    assert fake_hub.requests == [] and not list(tmp_path.glob("finetune"))


def test_a_run_of_a_published_name_is_asked_itself_what_belongs_to_it(tmp_path, fake_hub):
    import torch

    from simclrseg.commands.finetune import finetune
    from simclrseg.metadata import ModelMetadata
    from simclrseg.models.weights import save_weights
    from simclrseg.runs.names import BACKBONE_FILE

    run = claim(tmp_path, "pretrain", "cifar")
    metadata = ModelMetadata(task="backbone", encoder="resnet18", image_size=32, dataset="photos")
    save_weights(run.folder / BACKBONE_FILE, {"weight": torch.zeros(1)}, metadata)
    finish(run)
    with pytest.raises(UsageError, match="cifar does not say what to fine-tune on"):
        finetune(configured(model={"pretrained": "cifar"}, console={"runs": str(tmp_path)}))
    with pytest.raises(HubError, match="nobody has published pets yet"):
        finetune(configured(model={"pretrained": "pets"}, console={"runs": str(tmp_path)}))
    assert fake_hub.requests == []
