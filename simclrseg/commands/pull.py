"""`simclrseg pull`: list and fetch published backbones."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simclrseg.config.pull import PullConfig
from simclrseg.errors import ModelFileError, UnknownName, UsageError, WeightsError
from simclrseg.hub import store
from simclrseg.hub.fetch import Progress, Remote, fetch, look
from simclrseg.hub.imagenet import IMAGENET
from simclrseg.hub.table import (
    HF,
    NAMESPACE,
    PUBLISHED,
    TIMM,
    Published,
    Source,
    encoders_of,
    find,
    own_namespace,
    parse_address,
)
from simclrseg.metadata import ModelMetadata
from simclrseg.registry import canonical
from simclrseg.runs.names import PICKLES
from simclrseg.system.files import make_folder, remove_empty, replacing
from simclrseg.weights.companion import following
from simclrseg.weights.published import CONVERTED, backbone_file
from simclrseg.weights.shipped import PETS


@dataclass(frozen=True)
class Listing:
    """A row for each published backbone."""

    published: list[dict[str, Any]]


@dataclass(frozen=True)
class Planned:
    """What would be fetched by that name, or the file that is cached."""

    name: str
    source: Remote | Path

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        if isinstance(self.source, Path):
            return {"name": self.name, "would fetch": "nothing, it is here", "file": str(self.source)}
        place = self.source.source
        found = {"name": self.name, "would fetch": f"{place.repo_id}/{place.file}", "revision": self.source.commit}
        return {**found, "bytes": self.source.size, "into": str(store.root())}


@dataclass(frozen=True)
class Fetched:
    """A backbone's file, and the command that uses it."""

    name: str
    file: Path
    next: str


def pull(config: PullConfig, *, progress: Progress | None = None) -> Listing | Planned | Fetched:
    """List what is published, or fetch one backbone; SimclrsegError for everything that a user can mend."""
    name = config.source.name and canonical(config.source.name, PUBLISHED)
    if name is None:
        return Listing([*(_row(entry, config.source.namespace) for entry in PUBLISHED.values()), _shipped_row()])
    if name == PETS.name:
        return _shipped(config)
    if name.startswith(HF):
        entry, source = None, parse_address(name)
    elif name in PUBLISHED:
        entry = find(name, encoder=config.source.backbone)
        source = entry.source(config.source.namespace)
    else:
        raise UnknownName("published backbone", name, known=[PETS.name, *PUBLISHED, "hf:owner/repo"])
    if config.download.dry_run:
        cached = None if config.download.force else store.cached(source)
        return Planned(name, cached or look(source, token=config.source.token, local_only=config.download.offline))
    asked: dict[str, Any] = {"token": config.source.token, "local_only": config.download.offline}
    asked |= {"force": config.download.force, "progress": progress}
    stem = entry.name if entry else source.repo_id.split("/")[1]
    destination = _destination(config, f"{stem}.safetensors")
    made = make_folder(destination.parent) if destination is not None else []
    try:
        if entry is None:
            file = _fetch_address(source, config.source.backbone, asked)
        else:
            file = backbone_file(entry, namespace=config.source.namespace, **asked)
        if destination is not None:
            with replacing(destination) as temporary:
                shutil.copyfile(file, temporary)
            file = destination
    except BaseException:
        remove_empty(made)
        raise
    return Fetched(name, file, _next(name, file, entry, config))


def _shipped(config: PullConfig) -> Planned | Fetched:
    """The model that comes with the tool, copied where that is asked for; nothing is fetched."""
    file = PETS.file
    if config.download.dry_run:
        return Planned(PETS.name, file)
    if (target := _destination(config, file.name)) is not None:
        make_folder(target.parent)
        with replacing(target) as temporary:
            shutil.copyfile(file, temporary)
        file = target
    return Fetched(PETS.name, file, f"simclrseg predict image.jpg -o mask.png --model {PETS.name}")


def _shipped_row() -> dict[str, Any]:
    return {
        "name": PETS.name,
        "encoder": PETS.encoder,
        "method": PETS.method,
        "dataset": PETS.dataset,
        "epochs": PETS.epochs,
        "MB": round(PETS.file.stat().st_size / 1e6),
        "licence": PETS.licence,
        "status": "here",
        "repository": None,
        "made with": None,
    }


def _row(entry: Published, namespace: str | None) -> dict[str, Any]:
    """A line of the list; no request is made."""
    source = entry.source(namespace)
    many = entry.name == "imagenet"
    others = len(encoders_of(entry.name)) - 1
    encoder = f"any of {len(IMAGENET) + len(TIMM)}" if many else entry.encoder
    return {
        "name": entry.name,
        "encoder": f"{encoder}, or {others} others" if others else encoder,
        "method": entry.how,
        "dataset": entry.dataset,
        "epochs": entry.epochs,
        "MB": entry.size,
        "licence": entry.licence,
        "status": _status(entry, source, namespace),
        "repository": "smp-hub/<encoder>.imagenet" if many else source.repo_id,
        "made with": entry.make if source.ours else None,
    }


def _status(entry: Published, source: Source, namespace: str | None) -> str:
    if store.is_cached(source):
        return "cached"
    if source.ours and (namespace or own_namespace()) != NAMESPACE:
        return "not known"
    return "published" if entry.uploaded else "not yet published"


def _destination(config: PullConfig, name: str) -> Path | None:
    """The copy of that name that ``--output`` asks for, refused before anything is fetched if it is there already."""
    if config.download.output is None:
        return None
    path = Path(config.download.output, name)
    if path.exists() and not config.download.force:
        raise UsageError(
            f"{path} exists", "pass --force to replace it, or --output for another folder", option="force", path=path
        )
    return path


def _fetch_address(source: Source, encoder: str | None, asked: dict[str, Any]) -> Path:
    """Any file of the Hub; a pickle becomes safetensors, and with ``--backbone`` it becomes a backbone of ours."""
    file = fetch(source, **asked)
    ours = _metadata(file)
    if ours is not None and encoder is not None and ours.encoder != encoder:
        raise UsageError(
            f"{source} is a {ours.encoder}, not a {encoder}", "leave --backbone out", option="backbone", value=encoder
        )
    if ours is not None or (encoder is None and not file.name.endswith(PICKLES)):
        return file

    def convert(target: Path) -> None:
        from simclrseg.weights.convert import convert_encoder, convert_pickle

        if encoder is None:
            convert_pickle(file, target)
        else:
            convert_encoder(file, target, ModelMetadata(task="backbone", encoder=encoder, image_size=224))

    name = f"{file.name}{f'.{encoder}' if encoder else ''}.{CONVERTED}"
    return store.keep(store.folder_of(source, file) / name, convert, force=asked["force"])


def _metadata(file: Path) -> ModelMetadata | None:
    """Metadata of a file, read without torch; None where it is not ours."""
    if file.name.endswith(PICKLES):
        return None
    import safetensors

    try:
        with safetensors.safe_open(file, framework="np") as opened:
            return ModelMetadata.from_strings(opened.metadata() or {})
    except ModelFileError as error:
        raise WeightsError(f"{file}: {error}", path=file) from error
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{file} is no whole safetensors file ({error})", "ask whoever published it", path=file
        ) from error


def _next(name: str, file: Path, entry: Published | None, config: PullConfig) -> str:
    """The command that uses it."""
    what, dataset, options = shlex.quote(str(file)), "", ""
    if entry is not None:
        dataset = entry.dataset
        if config.download.output is None and config.source.namespace in {None, own_namespace()}:
            what, options = name, f" --backbone {entry.encoder}" if config.source.backbone else ""
    elif (ours := _metadata(file)) is not None:
        dataset = ours.dataset
    else:
        options = " --backbone NAME"
    return str(following(what, dataset, options=options))
