"""Before a training of several processes, one of them looks at the images; and what they say of it is the same."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch

from tests.folders import write_noise
from tests.processes import together

IMAGES = 12


def prepared(folder: Path) -> None:
    """Prepare a fine-tuning as one of several processes, and note which files it opened and what it found."""
    opened: Counter[str] = Counter()

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | Path):
            opened[Path(arguments[0]).parent.name] += 1

    sys.addaudithook(note)
    from simclrseg.commands.prepare_finetune import prepare
    from simclrseg.config.finetune import FinetuneConfig
    from simclrseg.knobs.parsing import parse_config
    from simclrseg.system import distributed
    from simclrseg.training.session import Session

    tree = {
        "data": {"dataset": str(folder / "labelled"), "image_size": 32, "normalization": "dataset", "cache": "none"},
        "model": {"backbone": "cnn"},
        "segment": {"class_weights": "auto"},
        "training": {"batch_size": 4},
        "hardware": {"device": "cpu", "workers": 1},
    }
    found = prepare(Session.begin("finetune", parse_config(FinetuneConfig, tree)))
    target = found.target
    mask = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4) % 3 == 0
    facts = {
        "metadata": found.metadata.model_dump(mode="json"),
        "split": asdict(target.split),
        "classes": target.dataset.classes,
        "loss": float(found.learner.loss(torch.zeros(1, 1, 4, 4), mask)),  # its class weights among it
        "opened": opened,
    }
    (folder / f"{distributed.rank()}.json").write_text(json.dumps(facts, default=str))
    distributed.dismiss()


def test_one_process_reads_masks_and_hashes_images_for_both(tmp_path: Path) -> None:
    write_noise(tmp_path / "labelled", IMAGES)
    together(prepared, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    ours, theirs = first.pop("opened"), second.pop("opened")
    assert first == second
    assert first["metadata"]["seen"] and first["metadata"]["test_hash"]
    assert ours["masks"] >= 2 * IMAGES, "all masks were read to understand them, and again for their pixels"
    assert "masks" not in theirs
    assert ours["images"] > 2 * IMAGES > theirs.get("images", 0), "hashes and figures come from the first"
