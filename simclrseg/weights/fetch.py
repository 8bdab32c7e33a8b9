"""A published backbone as a file of ours: fetched, and where it is somebody else's, given our metadata. Torch-free."""

from __future__ import annotations

from pathlib import Path

from simclrseg.hub import store
from simclrseg.hub.fetch import Progress, fetch
from simclrseg.hub.table import Published, Source

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
    source = entry.source(namespace)
    if not entry.converted:
        return fetch(source, token=token, local_only=local_only, force=force, progress=progress)
    if not force and (done := _converted(entry, source)) is not None:
        return done
    original = fetch(source, token=token, local_only=local_only, force=force, progress=progress)
    settings = entry.settings_source()
    beside = fetch(settings, token=token, local_only=local_only, force=force) if settings else None

    def convert(target: Path) -> None:
        from simclrseg.weights.convert import convert_published

        convert_published(entry, original, target, settings=beside, origin=str(source))

    return store.keep(store.folder_of(source, original) / _name(entry), convert, force=force)


def _converted(entry: Published, source: Source) -> Path | None:
    folder = store.folder(source)
    return folder / _name(entry) if folder is not None and store.is_kept(folder / _name(entry)) else None


def _name(entry: Published) -> str:
    """Two encoders may share a file, as vit_b_16 and timm's name for it do."""
    return f"{entry.encoder}.{CONVERTED}"
