"""The photo in the body of a request: read within limits, kept in memory, its name no path."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

LARGEST = 1 << 27
"""Bytes of a request."""
MOST_HELD = 1 << 29
"""Bytes of all requests together."""
DRAINED = 4 * LARGEST
"""Bytes of a request that are read, though it is too large, so that its sender hears why."""
PATIENCE = 60.0
"""Seconds in which a photo must have come."""
_FORM = "multipart/form-data"
_HOW = "curl -F photo=@image.jpg does that"


class Rejected(Exception):
    """A request that gets no prediction: the status of the answer, and its line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


class Room:
    """What requests may take at once: places of those in work and waiting, and bytes of their photos."""

    def __init__(self, places: int) -> None:
        self.places, self.taken, self.held = places, 0, 0

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place, until its request is answered.

        Raises:
            Rejected: if there is none.
        """
        if self.taken >= self.places:
            raise Rejected(503, f"all {self.places} places are taken: ask again in a moment")
        place = Place(self)
        self.taken += 1
        try:
            yield place
        finally:
            self.taken -= 1
            self.held -= place.bytes


class Place:
    """The place of a request, and the bytes that it holds."""

    def __init__(self, room: Room) -> None:
        self._room, self.bytes = room, 0

    def hold(self, more: int) -> None:
        """Count bytes of this request, or reject it where all together are too many."""
        if self._room.held + more > MOST_HELD:
            raise Rejected(503, "the photos that are waiting fill the memory for them: ask again in a moment")
        self._room.held += more
        self.bytes += more


async def photo_of(request: Request, place: Place) -> tuple[bytes, str]:
    """The bytes of the one photo that a request brings, as its body or as the file of a form; and its name.

    Raises:
        Rejected: if it brings none, several, too many bytes, or what is no photo by its type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("", _FORM, "application/octet-stream") and not kind.startswith("image/"):
        raise Rejected(415, f"the body is of type {kind[:80]}: send image/jpeg, another image type or a form; {_HOW}")
    try:
        async with asyncio.timeout(PATIENCE):
            body = await _body(request, place)
    except TimeoutError:
        raise Rejected(408, f"the photo has not come within {PATIENCE:.0f} seconds: send it again") from None
    except ClientDisconnect:
        raise Rejected(400, "the sender has gone") from None
    content, name = _file_of(body, request.headers["content-type"]) if kind == _FORM else (body, "photo")
    if not content:
        raise Rejected(400, f"the request holds no photo: {_HOW}")
    return content, name


async def _body(request: Request, place: Place) -> bytes:
    stated = request.headers.get("content-length", "")
    too_large = Rejected(413, f"the request is larger than {LARGEST:,} bytes: send a smaller photo")
    if stated.isdecimal() and int(stated) > DRAINED:
        raise too_large
    chunks: list[bytes] = []
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > DRAINED:
            break
        if length > LARGEST:
            chunks.clear()
        elif chunk:
            place.hold(len(chunk))
            chunks.append(chunk)
    if length > LARGEST:
        raise too_large
    return b"".join(chunks)


def _file_of(body: bytes, content_type: str) -> tuple[bytes, str]:
    """The one file of a form, and its name without folders."""
    files: list[tuple[str, list[bytes]]] = []
    header: dict[bytes, bytes] = {}
    field, value, ended = bytearray(), bytearray(), []

    def end_header() -> None:
        header[bytes(field).lower()] = bytes(value)
        field.clear()
        value.clear()

    def begin_data() -> None:
        _, options = parse_options_header(header.get(b"content-disposition"))
        name = options.get(b"filename")
        nameless = header.get(b"content-type", b"text/").startswith(b"text/")
        text = "photo" if name is None else re.split(r"[/\\]", name.decode("utf-8", "replace"))[-1] or "photo"
        files.append(("" if name is None and nameless else text, []))
        header.clear()

    def add(data: bytes, start: int, end: int) -> None:
        files[-1][1].append(data[start:end])

    _, options = parse_options_header(content_type)
    try:
        parser = MultipartParser(
            options.get(b"boundary", b""),
            {
                "on_header_field": lambda data, start, end: field.extend(data[start:end]),
                "on_header_value": lambda data, start, end: value.extend(data[start:end]),
                "on_header_end": end_header,
                "on_headers_finished": begin_data,
                "on_part_data": add,
                "on_end": lambda: ended.append(True),
            },
        )
        if options.get(b"boundary"):
            parser.write(body)
    except FormParserError as error:
        raise Rejected(400, f"the form cannot be read ({error}): {_HOW}") from None
    if not ended:
        raise Rejected(400, f"the form has no boundary, or is cut short: {_HOW}")
    found = [(b"".join(data), name) for name, data in files if name]
    if found and len(found) < len(files):
        raise Rejected(400, "the form has fields beside the photo: they belong in the address, as /predict?as=json")
    if len(found) != 1:
        count = f"{len(found)} files" if found else "no file"
        raise Rejected(400, f"the form holds {count}, and one photo is taken at a time: {_HOW}")
    return found[0]
