"""Names of runs, and of the files that they leave."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

Kind = Literal["pretrain", "finetune", "evaluate"]

ENVIRONMENT = "environment.json"
CHECKPOINT = Path("checkpoints", "last", "state.pt")
"""File of a run that has something to lose, and can be resumed."""
BACKBONE_FILE = "backbone.safetensors"
MODEL_FILE = "model.safetensors"
ONNX_FILE = "model.onnx"
"""File names of the models of a run."""
TEST_FILE = "test.json"
"""What a fine-tuned run's model scored on its test images."""
PICKLES = (".ckpt", ".pth", ".pt", ".bin", ".pth.tar")
WEIGHTS = (".safetensors", *PICKLES)
"""How the names of weights files end: those of torch.save, and all."""
RESERVED = ("none", "imagenet", "dinov2", "dinov3")
"""Names that ``--pretrained`` takes for other weights than a run's; a name with a suffix is a file's."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
LONGEST_NAME = 200
"""Characters of a run's name: a number may follow, and names of files are made of it."""
LONGEST_LABEL = 80
"""Characters of each part of a name that is derived."""


def dataset_label(dataset: str) -> str:
    """A dataset's part of a run's derived name: its name, or its folder's as far as a run's name can hold it."""
    path = Path(dataset).resolve()
    if path.is_file():  # of labels, whose own name says little
        path = path.parents[1] if path.parent.name == "annotations" else path.parent
    name = path.name if path.is_dir() else dataset
    label = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("._+-") or "photos"
    if len(label) <= LONGEST_LABEL:
        return label
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]  # long names may differ at their ends only
    return f"{label[: LONGEST_LABEL - 9]}-{digest}"
