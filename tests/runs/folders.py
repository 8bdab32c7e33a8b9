"""Run folders as commands leave them."""

from __future__ import annotations

from pathlib import Path

from simclrseg.runs.claim import claim
from simclrseg.runs.names import CHECKPOINT, Kind
from simclrseg.runs.run import Run, finish, record_facts


def finished(root: Path, name: str, *, kind: Kind = "pretrain", holding: str = "backbone.safetensors") -> Run:
    run = claim(root, kind, name)
    (run.folder / holding).touch()
    record_facts(run, torch="2.15")
    finish(run)
    return run


def checkpointed(root: Path, name: str) -> Run:
    run = claim(root, "pretrain", name)
    record_facts(run, torch="2.15")
    (run.folder / CHECKPOINT).parent.mkdir(parents=True)
    (run.folder / CHECKPOINT).touch()
    return run
