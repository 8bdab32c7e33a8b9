"""Published backbones by name, and fetching one from the Hugging Face Hub. To publish one: add its entry.

The Hub's own cache is the only store: what lies there is taken without any request.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from simclrseg.errors import HubError, UnknownName

log = logging.getLogger(__name__)

NAMESPACE = "simclrseg"
NAMESPACE_VARIABLE = "SIMCLRSEG_HUB_NAMESPACE"
TIMEOUT = 10.0  # seconds for the first answer


@dataclass(frozen=True)
class Published:
    """One backbone and where it is, or will be, published.

    Attributes:
        repo: repository without its namespace.
        namespace: of the repository, where it is not ours.
        revision: a commit hash once it is uploaded, so that a cached file needs no request.
        sha256: of the file; None while it is not uploaded.
        uploaded: False while nobody has put it there: it must not be listed as if it could be fetched.
        mean, std: of the channels, for pixels in [0, 1].
        epochs: of its pretraining.
        make: the command that makes it.
    """

    name: str
    repo: str
    encoder: str
    method: str
    dataset: str
    epochs: int
    make: str
    namespace: str | None = None
    file: str = "backbone.safetensors"
    revision: str = "main"
    sha256: str | None = None
    uploaded: bool = False
    in_channels: int = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    licence: str = "MIT"

    @property
    def repo_id(self) -> str:
        """Namespace and repository; the namespace is ours unless SIMCLRSEG_HUB_NAMESPACE names another."""
        return f"{self.namespace or _namespace()}/{self.repo}"


def _namespace() -> str:
    return os.environ.get(NAMESPACE_VARIABLE) or NAMESPACE


PUBLISHED: dict[str, Published] = {
    entry.name: entry
    for entry in (
        Published(
            name="pets",
            repo="resnet50-simclr-pets",
            encoder="resnet50",
            method="simclr",
            dataset="cats_vs_dogs",
            epochs=20,
            make="simclrseg pretrain --dataset cats_vs_dogs",
        ),
        Published(
            name="cifar",
            repo="resnet50-simclr-cifar",
            encoder="resnet50",
            method="simclr",
            dataset="cifar10",
            epochs=20,
            make="simclrseg pretrain --dataset cifar10",
        ),
    )
}


def published() -> list[dict[str, str | int]]:
    """The table as rows to print; no request is made.

    ``status`` is ``cached``, ``published``, ``not uploaded yet`` or, in a namespace other than ours, ``not known``.
    """
    return [
        {
            "name": entry.name,
            "repository": entry.repo_id,
            "encoder": entry.encoder,
            "method": entry.method,
            "dataset": entry.dataset,
            "epochs": entry.epochs,
            "licence": entry.licence,
            "status": _status(entry),
            "made with": entry.make,
        }
        for entry in PUBLISHED.values()
    ]


def find(name: str) -> Published:
    """The entry of that name.

    Raises:
        UnknownName: if there is none.
    """
    if name not in PUBLISHED:
        raise UnknownName("published backbone", name, known=PUBLISHED)
    return PUBLISHED[name]


def cached_path(name: str) -> Path | None:
    """The backbone's file in the Hub's local cache, or None; no request is made.

    Raises:
        UnknownName: if no backbone of that name is published.
        HubError: if SIMCLRSEG_HUB_NAMESPACE cannot be a namespace.
    """
    return _cached(find(name))


def fetch(name: str) -> Path:
    """The backbone's file: from the Hub's local cache, else downloaded into it and checked.

    Raises:
        UnknownName: if no backbone of that name is published.
        HubError: if it cannot be fetched, or is not the file that was announced.
    """
    return _fetch(find(name))


def fetch_imagenet(encoder: str, repo_id: str, revision: str) -> Path:
    """The weights that segmentation-models-pytorch publishes for an encoder, as ``fetch``.

    Raises:
        HubError: if they cannot be fetched, or are not the file that was announced.
    """
    namespace, _, repo = repo_id.partition("/")
    return _fetch(
        Published(
            name=f"imagenet weights of {encoder}",
            namespace=namespace,
            repo=repo,
            revision=revision,
            file="model.safetensors",
            encoder=encoder,
            method="supervised",
            dataset="imagenet",
            epochs=0,
            make="simclrseg pretrain --dataset cats_vs_dogs",
        )
    )


def _cached(entry: Published) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    with _one_line(entry):
        found = try_to_load_from_cache(entry.repo_id, entry.file, revision=entry.revision)
    return Path(found) if isinstance(found, str) else None


def _fetch(entry: Published) -> Path:
    path = _cached(entry)
    if path is None:
        path, announced = _download(entry)
        _check(path, entry.sha256 or announced)
    elif entry.sha256:
        _check(path, entry.sha256)
    return path


def _status(entry: Published) -> str:
    if cached_path(entry.name) is not None:
        return "cached"
    if _namespace() != NAMESPACE:
        return "not known"
    return "published" if entry.uploaded else "not uploaded yet"


def _download(entry: Published) -> tuple[Path, str | None]:
    """The file in the cache, and its sha256 where the Hub announces one."""
    import huggingface_hub
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise HubError(
            f"{entry.name} is not in the cache ({constants.HF_HUB_CACHE}) and HF_HUB_OFFLINE forbids fetching it: "
            f"unset it, or make one with `{entry.make}`"
        )
    log.info("looking for %s on %s", f"{entry.repo_id}/{entry.file}", constants.ENDPOINT)
    with _one_line(entry):
        # hf_hub_download would try seven times in 23 silent seconds before it says that there is no network;
        # this first request is not repeated
        url = huggingface_hub.hf_hub_url(entry.repo_id, entry.file, revision=entry.revision)
        remote = huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT)
        if remote.size:
            log.info("fetching %.1f MB", remote.size / 1e6)
        path = huggingface_hub.hf_hub_download(entry.repo_id, entry.file, revision=entry.revision)
    announced = remote.etag if re.fullmatch("[0-9a-f]{64}", remote.etag or "") else None
    return Path(path), announced


@contextmanager
def _one_line(entry: Published) -> Iterator[None]:
    """Turn what huggingface_hub raises into one HubError; subclasses come before their bases."""
    from huggingface_hub import constants, errors

    place = f"{entry.repo_id} on {constants.ENDPOINT}"
    instead = f"make one with `{entry.make}`"
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"{place} is gated: ask for access on its page and set HF_TOKEN (or `hf auth login`), or {instead}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"nobody has published {place} yet, or it is private and HF_TOKEN is not set: {instead}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{place} has no revision {entry.revision}: {instead}") from error
    except errors.RemoteEntryNotFoundError as error:
        raise HubError(f"{place} holds no {entry.file}: {instead}") from error
    except (
        errors.OfflineModeIsEnabled,
        errors.LocalEntryNotFoundError,
        errors.XetDownloadError,
        RuntimeError,  # of hf-xet
        errors.HTTPError,  # type: ignore[attr-defined]  # of the HTTP library that huggingface_hub happens to use
    ) as error:
        raise HubError(f"{_trouble(error, place)}, or {instead}") from error
    except errors.HFValidationError as error:
        raise HubError(f"{entry.repo_id!r} cannot be a repository's name: check {NAMESPACE_VARIABLE}") from error
    except OSError as error:
        raise HubError(f"{place} could not be stored in {constants.HF_HUB_CACHE}: {error.strerror or error}") from error


def _trouble(error: Exception, place: str) -> str:
    """What went wrong between here and the Hub, with its remedy."""
    origin = error if error.__cause__ is None else error.__cause__
    response = getattr(origin, "response", None)
    status = getattr(response, "status_code", None)
    if status == 401:
        return f"the Hub refused the token for {place}: check HF_TOKEN (or `hf auth login`)"
    if status == 403:
        return f"access to {place} was refused: check the rights of HF_TOKEN"
    if status == 429:
        return "the Hub has had too many requests from here: wait some minutes"
    if status is not None:
        return f"the Hub failed on {place} (HTTP {status}): try again later"
    return f"{place} cannot be reached ({type(origin).__name__}): check the network"


def _check(path: Path, sha256: str | None) -> None:
    """Refuse a file that is not the one announced, and take it out of the cache."""
    if sha256 is None:
        return
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != sha256:
        path.resolve().unlink(missing_ok=True)  # the cache links to one stored copy
        path.unlink(missing_ok=True)
        raise HubError(f"{path.name} has sha256 {got[:12]}…, not the announced {sha256[:12]}…; removed: fetch it again")
