"""Fixtures that more than one test module needs."""

from __future__ import annotations

import os

# More threads than cores make small operations slower, not faster. Of several workers each has one core; they inherit
# what the process that starts them has set.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # on a GPU too, float32 is compared with float32

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fake_hub import FakeHub

if TYPE_CHECKING:
    from tests.small import Pipeline


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, the README's ahead: no worker begins a long one when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, not item.path.name.startswith("test_readme")))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photos and masks; tests that need it are skipped, with a reason, where it is missing."""
    folder = os.environ.get("SIMCLRSEG_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SIMCLRSEG_TEST_DATA does not name a folder of real photos")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def field_cases(real_data: Path) -> Path:
    """Folders of labels, images and weights in the forms that people have."""
    if not (real_data / "field_cases").is_dir():
        pytest.skip("SIMCLRSEG_TEST_DATA holds no field_cases")
    return real_data / "field_cases"


@pytest.fixture
def fake_hub(tmp_path, monkeypatch) -> Iterator[FakeHub]:
    """A Hub on a local socket, to which huggingface_hub is pointed, with a cache of its own and no token."""
    import huggingface_hub
    from huggingface_hub import constants

    hub = FakeHub()
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    settings = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_CACHE": str(tmp_path / "hf" / "hub"),
        "HF_TOKEN_PATH": str(tmp_path / "hf" / "token"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,  # a protocol of its own
    }
    for name, value in settings.items():  # it reads its environment when it is imported, which may be long ago
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "SIMCLRSEG_HUB_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    yield hub
    huggingface_hub.close_session()
    hub.close()


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory) -> Pipeline:
    """One small pipeline on the built-in shapes, run once and looked at by many tests."""
    from simclrseg.commands.finetune import finetune
    from simclrseg.commands.pretrain import pretrain
    from simclrseg.config.finetune import FinetuneConfig
    from simclrseg.config.pretrain import PretrainConfig
    from tests.small import SMALL_FINETUNE, SMALL_PRETRAIN, Pipeline, in_runs

    runs = tmp_path_factory.mktemp("pipeline") / "runs"
    data = {**SMALL_FINETUNE["data"], "dataset": None}  # which belongs to what was pretrained on: shapes again
    return Pipeline(
        runs,
        pretrain(PretrainConfig.model_validate(in_runs(SMALL_PRETRAIN, runs))),
        finetune(FinetuneConfig.model_validate(in_runs({**SMALL_FINETUNE, "data": data}, runs))),
    )


@pytest.fixture
def unexported(monkeypatch) -> None:
    """Fine-tuning writes a file of no use for model.onnx, whose export takes longer than all else."""
    from tests.small import export_nothing

    export_nothing(monkeypatch)


@pytest.fixture
def short_dry_runs(monkeypatch) -> None:
    """Dry runs that take a single step."""
    from simclrseg.training import dry_run, forecast

    monkeypatch.setattr(dry_run, "DRY_STEPS", {"cpu": 1})
    monkeypatch.setattr(forecast, "WARM_UP", 0)


@pytest.fixture
def make_model(tmp_path) -> Callable[..., Path]:
    """Writes a segmentation model that can be checked by hand: the probability of a pixel is its brightness."""
    from tests.inference.models import write_segmenter

    return partial(write_segmenter, tmp_path / "model.onnx")


@pytest.fixture
def make_classifier(tmp_path) -> Callable[[], Path]:
    """Writes a classifier that can be checked by hand: a class scores the share of its band in all brightness."""
    from tests.inference.models import write_classifier

    return partial(write_classifier, tmp_path / "classifier.onnx")
