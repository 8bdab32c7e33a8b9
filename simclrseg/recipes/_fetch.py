"""A published backbone as a file of ours: fetched, and where it is somebody else's, given our metadata. Torch-free."""

from __future__ import annotations

from pathlib import Path

from simclrseg.hub import store
from simclrseg.hub.fetch import Progress, fetch
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
        return fetch(source, token=token, local_only=local_only, force=force, progress=progress)
    if not force and (done := _converted(source)) is not None:
        return done
    original = fetch(source, token=token, local_only=local_only, force=force, progress=progress)
    target = store.folder_of(source, original) / CONVERTED
    if force or not store.is_kept(target):
        settings = entry.settings_source()
        beside = fetch(settings, token=token, local_only=local_only, force=force) if settings else None
        from simclrseg.recipes._convert import convert_published

        convert_published(entry, original, target, settings=beside, origin=str(source))
        store.keep(target)
    return target


def _converted(source: Source) -> Path | None:
    folder = store.folder(source)
    return folder / CONVERTED if folder is not None and store.is_kept(folder / CONVERTED) else None
