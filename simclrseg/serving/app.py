"""What is asked and answered over HTTP: the page, `POST /predict`, `GET /health`."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simclrseg.errors import DeviceError, ImageError, OutOfMemory, SimclrsegError, UsageError
from simclrseg.images.bands import colour_bands
from simclrseg.inference.outputs import class_colours, class_names
from simclrseg.inference.predictor import Predictor
from simclrseg.serving.answers import TooLarge, answer, check_kind
from simclrseg.serving.uploads import LARGEST, Rejected, Room, photo_of
from simclrseg.text import encodable

log = logging.getLogger(__name__)

WAITING = 32
"""Photos that may wait while others are worked on."""
_ASSETS = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_STATUS: tuple[tuple[type[SimclrsegError], int], ...] = (  # the first that fits; of a model that fails it is 500
    (TooLarge, 413),
    (ImageError, 422),
    (UsageError, 400),
    (OutOfMemory, 503),
    (DeviceError, 503),
)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:\d+)?", re.IGNORECASE)


def make_app(predictor: Predictor, name: str, *, at_once: int, hosts: Collection[str]) -> ASGIApp:
    """Everything that is answered.

    Args:
        name: of the model, as the page shows it.
        at_once: photos that are worked on at the same time; ``WAITING`` more may wait.
        hosts: names of this machine that a browser may have asked for, beside its addresses.
    """
    metadata, room = predictor.model.metadata, Room(at_once + WAITING)
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="photos")
    pages = {path: (files(__package__).joinpath(file).read_bytes(), kind) for path, (file, kind) in _ASSETS.items()}
    classes = class_names(metadata)
    about = {
        "status": "ok",
        "model": encodable(name),
        "task": "classify" if predictor.model.classifies else "segment",
        "classes": classes,
        "colours": [] if predictor.model.classifies else class_colours(metadata)[: len(classes)],
        "threshold": predictor.threshold,
        "photos": metadata.takes_photos,
        "overlay": not predictor.model.classifies and bool(colour_bands(metadata.bands)),
        "device": predictor.model.device,
        "most_bytes": LARGEST,
        "most_pixels": predictor.max_pixels,
    }

    async def page(request: Request) -> Response:
        content, kind = pages[request.url.path]
        return Response(content, media_type=kind)

    async def health(request: Request) -> Response:
        return JSONResponse({**about, "working": room.taken})

    async def predict(request: Request) -> Response:
        kind = request.query_params.get("as", "json" if predictor.model.classifies else "mask")
        asked = replace(predictor, threshold=_threshold(request, predictor))
        check_kind(asked, kind)
        if unknown := request.query_params.keys() - {"as", "threshold"}:
            raise Rejected(400, f"{min(unknown)[:80]!r} is not known: as and threshold are")
        with room.place() as place:
            content, photo = await photo_of(request, place)
            began = time.perf_counter()
            try:
                made = await asyncio.get_running_loop().run_in_executor(
                    pool, lambda: answer(asked, content, kind, name=photo)
                )
            except asyncio.CancelledError:  # by the server, which ends
                raise Rejected(503, "simclrseg has been ended meanwhile: start it again") from None
        log.info(f"{kind} of a photo of {len(content):,} bytes, {time.perf_counter() - began:.2f} s")
        sure = {} if made.confidence is None else {"X-Confidence": f"{made.confidence:.6f}"}
        return Response(made.content, media_type=made.media_type, headers=sure)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, SimclrsegError)
        return _line(next((status for kind, status in _STATUS if isinstance(error, kind)), 500), str(error))

    async def rejected(request: Request, error: Exception) -> Response:
        assert isinstance(error, Rejected)
        return _line(error.status, error.line)

    async def other(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            return _line(500, "this is a fault of simclrseg: what it printed says more")
        what = f"{request.method} {request.url.path[:80]}"
        return _line(error.status_code, f"{what} is not known: there are GET /, GET /health and POST /predict")

    routes = [Route(path, page) for path in pages]
    routes += [Route("/health", health), Route("/predict", predict, methods=["POST"])]
    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        SimclrsegError: refused,
        Rejected: rejected,
        HTTPException: other,
        Exception: other,
    }
    return _Guard(Starlette(routes=routes, exception_handlers=handlers), hosts)


def _threshold(request: Request, predictor: Predictor) -> float | None:
    """The one that is asked for, or else the model's."""
    if (text := request.query_params.get("threshold")) is None:
        return predictor.threshold
    value = math.nan
    with suppress(ValueError):
        value = float(text)
    if not 0 < value < 1:
        raise Rejected(400, f"threshold is {text[:80]!r}: it must be a number with 0 < x < 1")
    if predictor.threshold is None:
        raise Rejected(400, "threshold: the model gives a probability a class and takes the likeliest: leave it out")
    return value


def _line(status: int, line: str) -> Response:
    again = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": line}, status, headers=again)


class _Guard:
    """Refuses what other sites' pages send through a browser of this machine, and says what this page may do.

    A name in the Host header that is not this machine's is one that has been made to lead here (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, {"localhost", *map(str.lower, hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        assert scope["type"] == "http"  # the server is told that there is no other
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        app: ASGIApp = self._app
        if not self._is_ours(host):
            app = _line(403, f"the address names the host {host[:80]!r}: use this machine's number, or localhost")
        elif origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            app = _line(403, f"the page of {origin[:80]!r} may not ask: open the address that simclrseg printed")
        await app(scope, receive, with_headers)

    def _is_ours(self, host: str) -> bool:
        if (parts := _HOST.fullmatch(host)) is None:
            return False
        name = parts[1].strip("[]").lower()
        with suppress(ValueError):
            return bool(ipaddress.ip_address(name))  # which no name of another's can lead to
        return name in self._hosts
