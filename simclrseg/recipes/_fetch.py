"""A published backbone as a file of ours: fetched, and where it is somebody else's, given our metadata. Torch-free."""

from __future__ import annotations

from pathlib import Path

from simclrseg.hub import fetch as hub
from simclrseg.hub.fetch import Progress
from simclrseg.hub.table import Published, Source

CONVERTED = "converted.safetensors"
"""What a converted file is called, beside the one that it was made of."""


def backbone_file(
    entry: Published,
    *,
    namespace: str | None = None,
    token: str | None = None,
    local_only: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The encoder of an entry, in a file that says what it is.

    Raises:
        UsageError: if the namespace cannot be one.
        HubError: if it cannot be had, or is not the file that was announced.
        WeightsError: if it does not hold what the table says.
    """
    source = entry.source(namespace)
    if not entry.converted:
        return hub.fetch(source, token=token, local_only=local_only, force=force, progress=progress)
    if not force and (done := _converted(source)) is not None:
        return done
    original = hub.fetch(source, token=token, local_only=local_only, force=force, progress=progress)
    target = hub.folder_of(source, original) / CONVERTED
    if force or not hub.is_kept(target):
        settings = entry.settings_source()
        beside = hub.fetch(settings, token=token, local_only=local_only, force=force) if settings else None
        from simclrseg.recipes._convert import convert_published

        convert_published(entry, original, target, settings=beside, origin=str(source))
        hub.keep(target)
    return target


def _converted(source: Source) -> Path | None:
    folder = hub.folder(source)
    return folder / CONVERTED if folder is not None and hub.is_kept(folder / CONVERTED) else None
