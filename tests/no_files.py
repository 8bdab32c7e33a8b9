"""What bears the name of a photo and is no file: reading some of it would never end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

REASONS = {
    "circle.jpg": "it is a link back to itself",
    "gone.jpg": "it is a link to nothing",
    "pipe.jpg": "it is a pipe, not a file",
    "socket.jpg": "it is a socket, not a file",
    "zero.jpg": "it is a device, not a file",
}


def put_no_files(folder: Path) -> None:
    """Put one of each kind into a folder, and links that lead round and round."""
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.jpg")
    before = os.getcwd()
    os.chdir(folder)  # a socket's address has room for a short path only
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
    os.chdir(before)
    for name in ("round", "around"):
        (folder / name).symlink_to(".")
