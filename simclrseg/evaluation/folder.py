"""The folder that an evaluation leaves."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from simclrseg import runs
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.knobs.files import dump_config
from simclrseg.system import log_file
from simclrseg.system.files import write_text


@contextmanager
def open_report(config: EvaluateConfig, name: str, *, scored: list[str]) -> Iterator[Path]:
    """Claim a new folder, which is finished when the block ends and gone where it fails.

    Args:
        scored: paths of the models.
    """
    run = runs.claim(Path(config.console.runs), "evaluate", name)
    try:
        with log_file.kept(run.folder, shlex.join(["simclrseg", *sys.argv[1:]])):
            started = datetime.now(UTC).isoformat(timespec="seconds")
            runs.record(run, kind="evaluate", started=started, scored=scored[0] if len(scored) == 1 else scored)
            write_text(run.folder / "config.yaml", dump_config(config))
            yield run.folder
            runs.finish(run)
    except BaseException:
        runs.discard_unless_started(run)
        raise
