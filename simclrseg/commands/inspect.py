"""`simclrseg export --inspect`: what an exported file takes, gives and says of itself. Never imports torch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from simclrseg.config.export import ExportConfig
from simclrseg.errors import ModelFileError
from simclrseg.exporters import READERS
from simclrseg.knobs.knob import leaves
from simclrseg.system.identify import why_not_a_file

log = logging.getLogger(__name__)


def inspect(config: ExportConfig) -> dict[str, Any]:
    """Describe an ONNX, ``.pt2`` or safetensors file, ours or another's.

    Returns:
        The file, its size, its inputs and outputs with type and shape, and its metadata (empty where it is not ours).

    Raises:
        ModelFileError: if there is no such file, or it cannot be read.
    """
    path = Path(config.console.inspect or "")
    if reason := why_not_a_file(path):
        raise ModelFileError(f"{path}: {reason}", path=path)
    if path.suffix not in READERS:
        raise ModelFileError(f"{path}: the names of exported files end in {', '.join(READERS)}", path=path)
    try:
        facts = READERS[path.suffix](path)
    except ModelFileError as error:
        raise ModelFileError(f"{path} {error}", path=path) from error
    if not facts["metadata"]:
        log.warning(f"{path} was not exported by simclrseg: it says nothing of classes, sizes or normalisation")
    if not config.console.as_json:  # groups as dotted names, so that metrics.precision is not taken for precision
        facts["metadata"] = {".".join(keys): value for keys, value in leaves(facts["metadata"]).items()}
    return {"file": str(path), "megabytes": round(path.stat().st_size / 1e6, 1), **facts}
