"""Errors between here and the Hub, each as one line with its remedy."""

from __future__ import annotations

import http
from collections.abc import Iterator
from contextlib import contextmanager

from simclrseg.errors import HubError
from simclrseg.hub.table import NAMESPACE_VARIABLE, Source
from simclrseg.system.files import FULL

TOKEN = "set HF_TOKEN, pass --token or run `hf auth login`"


@contextmanager
def one_line(source: Source) -> Iterator[None]:
    """Turn what huggingface_hub raises into one HubError; subclasses come before their bases.

    An error of the disk passes as it is: it is the folder's, not the Hub's.
    """
    from huggingface_hub import errors

    place = place_of(source)
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(f"{place} is gated", f"ask for access on its page and {TOKEN}, or {source.remedy}") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(_lacking(source)) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{place} has no revision {source.revision!r}: {source.remedy}") from error
    except errors.RemoteEntryNotFoundError as error:
        raise HubError(f"{place} holds no {source.file}: {source.remedy}") from error
    except errors.HFValidationError as error:
        raise HubError(
            f"{source.repo_id!r} cannot be a repository's name", f"check the address or {NAMESPACE_VARIABLE}"
        ) from error
    except (
        errors.OfflineModeIsEnabled,
        errors.LocalEntryNotFoundError,
        errors.FileMetadataError,
        RuntimeError,  # of hf-xet, and around whatever broke an upload
        errors.HTTPError,  # of the HTTP library that huggingface_hub happens to use
    ) as error:
        if getattr(error, "errno", None) in FULL:
            raise
        if _status(error) == http.HTTPStatus.NOT_FOUND:  # of a mirror, which does not say what it is that is missing
            raise HubError(_lacking(source)) from error
        raise HubError(f"{_trouble(error, place)}, or {source.remedy}") from error


def _lacking(source: Source) -> str:
    place = place_of(source)
    lacking = f"nobody has published {place} yet" if source.ours else f"there is no {place}"
    return f"{lacking}, or it is private and the token is missing ({TOKEN}): {source.remedy}"


def place_of(source: Source) -> str:
    from huggingface_hub import constants

    return f"{source.repo_id} on {constants.ENDPOINT}"


def offline(source: Source, reason: str) -> HubError:
    """The error where a file is not cached and nothing may be fetched."""
    from huggingface_hub import constants

    return HubError(
        f"{source.title or source} is not in the cache ({constants.HF_HOME}) and {reason} forbids fetching it: "
        f"do without it once, or {source.remedy}"
    )


def _trouble(error: Exception, place: str) -> str:
    """The error between here and the Hub, with its remedy."""
    status = _status(error)
    if status == http.HTTPStatus.UNAUTHORIZED:
        return f"the Hub refused the token for {place}: {TOKEN}"
    if status == http.HTTPStatus.FORBIDDEN:
        return f"access to {place} was refused: check the rights of the token"
    if status == http.HTTPStatus.TOO_MANY_REQUESTS:
        return "the Hub has had too many requests from here: wait some minutes"
    if status is not None:
        return f"the Hub failed on {place} (HTTP {status}): try again later"
    return f"{place} cannot be reached ({type(_origin(error)).__name__}): check the network"


def _status(error: Exception) -> int | None:
    """Status of the answer that an error is about; None where there was no answer."""
    status: int | None = getattr(getattr(_origin(error), "response", None), "status_code", None)
    return status


def _origin(error: Exception) -> BaseException:
    return error if error.__cause__ is None else error.__cause__
