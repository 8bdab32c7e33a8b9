"""PyTorch's exporter, which is slow, giving what it gave before: for tests of what is done with a traced network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


def take_for_traced(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every network be traced as the one of this ONNX file, which ought to be the same."""

    class Program:
        def save(self, path: Path, *, external_data: bool) -> None:
            path.write_bytes(file.read_bytes())

    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **options: Program())
