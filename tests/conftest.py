"""Fixtures that more than one test module needs."""

from __future__ import annotations

import os

# More threads than cores make small operations slower, not faster. Of several workers each has one core; they inherit
# what the process that starts them has set.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_hub import FakeHub


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
