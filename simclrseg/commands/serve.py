"""`simclrseg predict --serve`: the same predictions on a local page, and for programs that ask over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec

import cv2

from simclrseg.commands.model import open_for, predictor_of
from simclrseg.config.predict import PredictConfig
from simclrseg.errors import UsageError
from simclrseg.runs.names import ONNX_FILE
from simclrseg.system.hardware import cpu_cores

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Photos in work by default: while one is computed, another is read and written."""


def serve(config: PredictConfig, *, on_ready: Callable[[str], None]) -> None:
    """Answer until a signal comes.

    Args:
        on_ready: is told the page's address, when it can be opened.

    Raises:
        UsageError: if what the page needs is not installed, or its address is not to be had.
    """
    if missing := [package for package in ("starlette", "uvicorn", "python_multipart") if find_spec(package) is None]:
        raise UsageError(
            f"--serve needs {', '.join(missing)}, which is not installed",
            "pip install 'simclrseg[serve]'",
            option="serve",
        )
    from simclrseg.serving.app import make_app
    from simclrseg.serving.server import address_of, is_public, listen, names_of_this_machine, open_browser, run

    page = config.page
    with closing(listen(page.host, page.port)) as listening:
        at_once = config.hardware.workers or min(AT_ONCE, cpu_cores())
        model = open_for(config, at_once=at_once)
        if at_once > 1:
            cv2.setNumThreads(0)  # each call on the thread that makes it; for the whole process
        predictor = predictor_of(config, model)
        path = model.path
        name = path.resolve().parent.name if path.name == ONNX_FILE else path.name
        hosts = {page.host, *names_of_this_machine()} if is_public(listening) else {page.host}
        app = make_app(predictor, name, at_once=at_once, hosts=hosts)
        address = address_of(listening)
        if is_public(listening):
            log.warning(
                f"--host {page.host}: other machines may reach this page, and whoever does can use the model; "
                "there is no password"
            )
        log.info(
            f"a page to try it until Ctrl-C; other programs: curl -F photo=@image.jpg {address}predict -o mask.png"
        )
        on_ready(address)
        open_browser(address)
        run(app, listening)
