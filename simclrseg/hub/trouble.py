"""Errors between here and the Hub, each as one line with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from simclrseg.errors import HubError, SimclrsegError
from simclrseg.hub.table import Source
from simclrseg.system.files import FULL
from simclrseg.system.log_file import shown_as_ours

NO_ANSWERS = ("DecodingError", "TooManyRedirects", "UnsupportedProtocol")
"""Errors of the HTTP library that no network causes."""
TOKEN = "set HF_TOKEN, pass --token or run `hf auth login`"


@contextmanager
def one_line(source: Source) -> Iterator[None]:
    """Turn what huggingface_hub raises into one HubError; subclasses come before their bases.

    An error of the disk passes as it is: it is the folder's, not the Hub's. Where an answer has another form than the
    Hub's, the library fails in any way, as it does with a token or a proxy that it cannot use.
    """
    from huggingface_hub import errors

    place = place_of(source)
    try:
        with shown_as_ours("huggingface_hub"):
            yield
    except SimclrsegError:
        raise
    except errors.GatedRepoError as error:
        raise HubError(f"{place} is gated", f"ask for access on its page and {TOKEN}, or {source.remedy}") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(_lacking(source)) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{place} has no revision {source.revision!r}: {source.remedy}") from error
    except errors.RemoteEntryNotFoundError as error:
        raise HubError(f"{place} holds no {source.file}: {source.remedy}") from error
    except RecursionError as error:
        raise no_hub(source, "an answer that is nested too deeply") from error
    except (
        errors.OfflineModeIsEnabled,
        errors.LocalEntryNotFoundError,
        errors.FileMetadataError,
        RuntimeError,  # of hf-xet, and around whatever broke an upload
        errors.HTTPError,  # of the HTTP library that huggingface_hub happens to use
    ) as error:
        if getattr(error, "errno", None) in FULL:
            raise
        raise HubError(_trouble(error, source)) from error
    except OSError:
        raise
    except UnicodeEncodeError as error:
        raise HubError(f"the token for {place} holds characters that no token has", TOKEN) from error
    except Exception as error:
        raise no_hub(source, type(error).__name__) from error


def raise_refusal(answer: Any) -> None:
    """Raise huggingface_hub's error for an answer that refuses, whose text, of any length, is not read."""
    from huggingface_hub.utils import hf_raise_for_status

    if answer.is_error:
        answer.close()
    hf_raise_for_status(answer)


def no_hub(source: Source, why: str) -> HubError:
    """The error for a server that answers in another way than the Hub does, or cannot be asked."""
    remedy = "check HF_ENDPOINT, and HTTPS_PROXY or ALL_PROXY where one is set"
    return HubError(f"{place_of(source)} does not answer as the Hub does ({why})", remedy)


def place_of(source: Source) -> str:
    from huggingface_hub import constants

    return f"{source.repo_id} on {constants.ENDPOINT}"


def _lacking(source: Source) -> str:
    place = place_of(source)
    lacking = f"nobody has published {place} yet" if source.ours else f"there is no {place}"
    return f"{lacking}, or it is private and the token is missing ({TOKEN}): {source.remedy}"


def _trouble(error: Exception, source: Source) -> str:
    """The error between here and the Hub, by the status of the answer, if there was one, with its remedy."""
    place = place_of(source)
    origin = error if error.__cause__ is None else error.__cause__
    match getattr(getattr(origin, "response", None), "status_code", None):
        case HTTPStatus.NOT_FOUND:  # of a mirror, which does not say what it is that is missing
            return _lacking(source)
        case HTTPStatus.UNAUTHORIZED:
            trouble = f"the Hub refused the token for {place}: {TOKEN}"
        case HTTPStatus.FORBIDDEN:
            trouble = f"access to {place} was refused: check the rights of the token"
        case HTTPStatus.TOO_MANY_REQUESTS:
            trouble = "the Hub has had too many requests from here: wait some minutes"
        case None if type(origin).__name__ == "LocalProtocolError":  # of headers, as where a line ends in it
            trouble = f"the token for {place} holds characters that no token has: {TOKEN}"
        case None if type(error).__name__ in NO_ANSWERS:
            return str(no_hub(source, type(error).__name__))
        case None:
            trouble = f"{place} cannot be reached ({type(origin).__name__}): check the network"
            if source.file and not source.ours:  # training one's own would ask for a network too
                by_hand = f"fetch {source.file} elsewhere and give that file to --pretrained"
                return f"{trouble}, or {by_hand}, and its encoder to --backbone"
        case status:
            trouble = f"the Hub failed on {place} (HTTP {status}): try again later"
    return f"{trouble}, or {source.remedy}"
