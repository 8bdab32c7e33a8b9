"""A run's weights for others: its recipe without paths, and all on the Hub in one commit."""

from __future__ import annotations

import os
from pathlib import Path

from simclrseg.data.datasets import DATASETS, HUB
from simclrseg.errors import UsageError
from simclrseg.hub.push import check_access, push
from simclrseg.hub.table import is_repository
from simclrseg.knobs.knob import knobs_of, look_up, put
from simclrseg.knobs.parsing import dump_config, parse_config, stored_values
from simclrseg.knobs.sections import Section
from simclrseg.knobs.values import Completes
from simclrseg.metadata import ModelMetadata
from simclrseg.runs.names import BACKBONE_FILE, MODEL_FILE
from simclrseg.runs.run import Run
from simclrseg.system.files import write_text
from simclrseg.weights.card import CARD, card_text
from simclrseg.weights.companion import following
from simclrseg.weights.find import is_path

PUBLISHED = "safetensors"
"""The export format that is published."""
FOLDER = "hub"


def check_push(repository: str, token: str | None, *, format: str) -> str:
    """The token that will upload; checked before anything is written.

    Args:
        repository: what ``--push`` says.
        token: as it was given; by default the environment's.
        format: of the export.
    """
    if format != PUBLISHED:
        raise UsageError(f"--push uploads weights, not {format}", f"pass --format {PUBLISHED}", option="push")
    if not is_repository(repository):
        raise UsageError(
            f"--push {repository!r} cannot be a repository's name", "write owner/name", option="push", value=repository
        )
    return check_access(repository, token)


def file_to_publish(run: Run) -> Path:
    """The file that ``export`` writes where none is named: in a folder of its own, with the card."""
    return run.folder / FOLDER / _name(run)


def card_beside(run: Run, file: Path) -> Path:
    """The model card of a file that ``export`` writes."""
    return file.with_name(CARD) if file.parent == run.folder / FOLDER else file.with_suffix(".md")


def for_others(config: Section, metadata: ModelMetadata) -> tuple[str, ModelMetadata]:
    """A run's configuration as YAML and its weights' metadata, which name no path of this machine.

    Of a folder of images its name is left, with a slash, so that nobody takes it for a named set; of other folders and
    files, the name.
    """
    tree = stored_values(config)
    for knob in knobs_of(type(config)):
        if (completes := knob.marker(Completes)) and completes.what in _PATHS and (value := look_up(tree, knob.path)):
            name = _PATHS[completes.what]
            put(tree, knob.path, [name(one) for one in value] if isinstance(value, list) else name(value))
    text = dump_config(parse_config(type(config), tree, source="config.yaml", of_a_run=True))
    dataset = "+".join(_dataset(name) for name in metadata.dataset.split("+"))
    data = tree["data"] if metadata.data else {}
    return text, metadata.model_copy(update={"dataset": dataset, "data": data})


def _dataset(name: str) -> str:
    return name if not name or name in DATASETS or name.startswith(HUB) else _base(name) + "/"


def _weights(name: str) -> str:
    return _base(name) if is_path(name) else name


def _file(text: str) -> str:
    return text if text.startswith("{") else _base(text)  # else it is what the file held


def _base(path: str) -> str:
    return os.path.basename(os.path.abspath(path))


_PATHS = {"datasets": _dataset, "pretrained": _weights, "files": _file, "folders": _base}
"""Functions that strip paths from a value, by how it is completed."""


def publish(
    run: Run,
    file: Path,
    metadata: ModelMetadata,
    recipe: str,
    *,
    repository: str | None,
    token: str | None,
    licence: str | None,
    private: bool,
) -> tuple[Path, str | None]:
    """Write the card of exported weights and upload both, if that was asked.

    Args:
        metadata, recipe: of ``for_others``.
        repository: to upload to; None for the card alone.
        token: of ``check_push``.
        private: whether a new repository is.

    Returns:
        The card, and the commit's address if there is one.
    """
    name = _name(run)
    card = card_beside(run, file)
    text = card_text(
        repository.split("/")[1] if repository else run.name,
        name,
        metadata,
        use=following(f"hf:{repository or 'OWNER/NAME'}", metadata.dataset).markdown(),
        recipe=recipe,
        licence=licence,
    )
    write_text(card, text)
    if repository is None or token is None:
        return card, None
    return card, push(
        {name: file, CARD: card, "config.yaml": recipe.encode()},
        repository,
        token=token,
        private=private,
        message=f"Upload {metadata.encoder} of simclrseg {metadata.version}",
    )


def _name(run: Run) -> str:
    return BACKBONE_FILE if run.kind == "pretrain" else MODEL_FILE
