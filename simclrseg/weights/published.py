"""A published backbone as a file of ours: fetched, and where it is somebody else's, given our metadata. Torch-free."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from simclrseg.hub import store
from simclrseg.hub.fetch import Progress, fetch
from simclrseg.hub.table import Published

CONVERTED = "converted.safetensors"
"""How the names of converted files end, beside those that they were made of."""


def backbone_file(
    entry: Published,
    *,
    namespace: str | None = None,
    token: str | None = None,
    local_only: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The encoder of an entry, in a file that says what it is."""
    source, fetched = entry.source(namespace), partial(fetch, token=token, local_only=local_only, force=force)
    if not entry.converted:
        return fetched(source, progress=progress)
    name = f"{entry.encoder}.{CONVERTED}"  # two encoders may share a file, as vit_b_16 and timm's name for it do
    folder = store.folder(source)
    if not force and folder is not None and store.is_kept(folder / name):
        return folder / name
    original = fetched(source, progress=progress)
    beside = fetched(replace(source, file=entry.settings, sha256=None)) if entry.settings else None

    def convert(target: Path) -> None:
        from simclrseg.weights.convert import convert_published

        convert_published(entry, original, target, settings=beside, origin=str(source))

    return store.keep(store.folder_of(source, original) / name, convert, force=force)
