"""The model card that a pretraining run leaves as README.md."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from simclrseg.metadata import BACKBONE_FILE, ModelMetadata
from simclrseg.system.files import write_text
from simclrseg.weights.companion import following
from simclrseg.weights.publish import usage

CARD = """\
# {name}

A {encoder} encoder, pretrained with {method} on {photos:,} photos of {dataset}, for {epochs} epochs.

| | |
|---|---|
| photos | {photos:,} of {dataset}{test} |
| image size | {image_size} px, {stem} stem |
{rows}
| optimizer | {optimizer} |
| seed | {seed} |
| last epoch | {metrics} |
| simclrseg | {version}{commit} |

## Use

{finetune}

The file holds the encoder's own keys.

{usage}
The licence of the photos applies to what was learned from them.
"""


def write_card(
    folder: Path,
    metadata: ModelMetadata,
    *,
    method: str,
    photos: int,
    rows: Mapping[str, str],
    optimizer: str,
    seed: int,
) -> None:
    """Write ``README.md`` beside ``backbone.safetensors``.

    Args:
        method: how texts call it.
        rows: what there is to say of the method.
        optimizer: with its learning rate and schedule.
    """
    text = CARD.format(
        name=folder.name,
        encoder=metadata.encoder,
        method=method,
        photos=photos,
        dataset=metadata.dataset,
        test=", published test photos among them" if metadata.include_test else "",
        epochs=metadata.epochs,
        image_size=metadata.image_size,
        stem=metadata.stem,
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        optimizer=optimizer,
        seed=seed,
        metrics=", ".join(f"{name} {value:.4g}" for name, value in metadata.metrics.items()),
        version=metadata.version,
        commit=f" at {metadata.commit[:10]}" if metadata.commit else "",
        finetune=following(shlex.quote(str(folder / BACKBONE_FILE)), metadata.dataset).markdown(),
        usage="\n".join(usage(BACKBONE_FILE, metadata)),
    )
    write_text(folder / "README.md", text)
