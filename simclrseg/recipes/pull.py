"""`simclrseg pull`: list and fetch published backbones."""

from __future__ import annotations

from typing import Any

from simclrseg import hub
from simclrseg.config import PullConfig
from simclrseg.errors import UnknownName


def pull(config: PullConfig) -> dict[str, Any]:
    """List what is published, or fetch one backbone into the local cache.

    Returns:
        What the command prints: ``published``, a list of rows; or the name, the file and the next command.
    """
    name = config.source.name
    if name is None:
        return {"published": hub.published()}
    if name not in hub.PUBLISHED:
        raise UnknownName("published backbone", name, known=hub.PUBLISHED)
    file = hub.fetch(name)
    return {"name": name, "file": str(file), "next": f"simclrseg finetune --pretrained {name}"}
