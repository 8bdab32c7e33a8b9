"""Exported weights come back as they were."""

from __future__ import annotations

import pytest
import torch

from simclrseg.errors import GateError
from simclrseg.exporters import weights
from simclrseg.exporters.weights import export_weights
from simclrseg.models.weights import read_weights
from tests.exporters.small import described, small


def test_weights_and_metadata_come_back(tmp_path):
    export_weights(small(1), tmp_path / "model.safetensors", described())
    tensors, metadata = read_weights(tmp_path / "model.safetensors")
    assert metadata == described()
    assert all(torch.equal(tensors[key], value) for key, value in small(1).state_dict().items())


def test_a_file_that_does_not_hold_them_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "read_weights", lambda path: (small(1, seed=1).state_dict(), described()))
    with pytest.raises(GateError, match="do not come back"):
        export_weights(small(1), tmp_path / "model.safetensors", described())
    assert not list(tmp_path.iterdir())
