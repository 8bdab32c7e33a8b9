"""A trained network as an ExportedProgram, for PyTorch without this tool and for its compilers.

The program takes and gives what the ONNX file does (graphs.py), but H and W are multiples of 32 from 64 on:
PyTorch cannot export the padding for other sizes. ``torch.export.load(path).module()`` runs it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from simclrseg.errors import GateError
from simclrseg.exporters.graphs import GRAPHS, INPUT, STRIDE, pixel_type, portable
from simclrseg.exporters.onnx import quietly
from simclrseg.exporters.tracing import traceable
from simclrseg.exporters.verification import Agreement, answer_of, check_exact, compare
from simclrseg.metadata import PROGRAM_ENTRY, ModelMetadata
from simclrseg.system.files import replacing
from simclrseg.text import in_one_line

log = logging.getLogger(__name__)


def export_program(
    model: nn.Module,
    path: Path,
    metadata: ModelMetadata,
    *,
    images: Sequence[np.ndarray] = (),
    truths: Sequence[np.ndarray] = (),
    fixed_shape: tuple[int, int, int] | None = None,
) -> Agreement:
    """Write the network as one ``.pt2`` file with its preprocessing and metadata, if it passes a check.

    Arguments and errors are those of ``export_onnx``.
    """
    log.info(f"exporting {path.name} and comparing it with the network, which can take minutes")
    network = portable(model, metadata)
    shape = fixed_shape or ("batch", f"{STRIDE}*rows", f"{STRIDE}*columns")
    traced = fixed_shape or (2, 3 * STRIDE, 4 * STRIDE)
    example = torch.from_numpy(np.zeros((*traced, metadata.in_channels), pixel_type(metadata)))
    sizes: dict[int, object] = {
        0: torch.export.Dim("batch"),
        1: STRIDE * torch.export.Dim("rows", min=2),
        2: STRIDE * torch.export.Dim("columns", min=2),
    }
    try:
        with quietly(), traceable(network, metadata.image_size) as twin:
            program = torch.export.export(
                twin, (example,), dynamic_shapes={INPUT: None if fixed_shape else sizes}, strict=False
            )
    except Exception as error:  # torch raises about anything for what it cannot trace
        reason = in_one_line(error, 200)
        raise GateError(f"PyTorch cannot export a network with encoder {metadata.encoder}: {reason}") from error
    side = max(2 * STRIDE, metadata.image_size // STRIDE * STRIDE)
    sides = ((side, side), (2 * STRIDE, 3 * STRIDE), (5 * STRIDE, 2 * STRIDE))
    shapes = [fixed_shape] if fixed_shape else [(count, *size) for size in sides for count in (1, 3)]
    metadata = metadata.model_copy(update={"sides_multiple_of": 1 if fixed_shape else STRIDE})
    with replacing(path) as temporary:
        _save(program, temporary, metadata, shape)
        with quietly():
            loaded = torch.export.load(temporary).module()
        agreement = compare(answer_of(network), answer_of(loaded), metadata, shapes, images, truths)
        check_exact(agreement)
        _save(program, temporary, metadata.model_copy(update={"checks": agreement.facts()}), shape)
    return agreement


def _save(program: torch.export.ExportedProgram, path: Path, metadata: ModelMetadata, shape: Sequence[object]) -> None:
    """Write the program, and beside it in the file what ``export --inspect`` prints, which needs no PyTorch then."""
    pixels = np.dtype(pixel_type(metadata)).name
    facts = {
        "inputs": [{"name": INPUT, "type": pixels, "shape": [*shape, metadata.in_channels]}],
        "outputs": GRAPHS[metadata.task].described(metadata, [*shape]),
        "metadata": metadata.model_dump(mode="json"),
    }
    with quietly():
        torch.export.save(program, path, extra_files={PROGRAM_ENTRY: json.dumps(facts, indent=1)})
