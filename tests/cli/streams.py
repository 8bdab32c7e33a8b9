"""Streams that nobody reads."""

from __future__ import annotations

import os
from contextlib import contextmanager


@contextmanager
def unread(kind):
    """A stream that takes nothing: of a pipe or a terminal whose other end is closed, or of a full disk."""
    if kind == "full disk":
        own = os.open("/dev/full", os.O_WRONLY)
    else:
        other, own = os.pipe() if kind == "pipe" else os.openpty()
        os.close(other)
    stream = os.fdopen(own, "w")
    try:
        yield stream
    finally:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # else closing it fails too
        os.close(null)
        stream.close()
