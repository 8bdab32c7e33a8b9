"""Which process of several this is, as torchrun tells it. Torch-free, so that anything may ask."""

from __future__ import annotations

import os


def rank() -> int:
    """Number of this process among all of them, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """Number of those processes that run on this machine and share its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process writes files and lines: the first does, for all."""
    return rank() == 0
