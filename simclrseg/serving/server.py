"""The server below the page: a socket of its own, and an end that is clean."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import sys
import webbrowser
from typing import Any

import uvicorn

from simclrseg.errors import UsageError

_MOST_CONNECTIONS = 256
_FAREWELL = 5  # seconds that answers have left when the server is ended
_REFUSALS = {  # reason, remedy and option by the system's word
    errno.EADDRINUSE: ("{host}:{port} is taken", "pass another --port, or --port 0 for a free one", "port"),
    errno.EACCES: ("port {port} is not for users", "pass a --port from 1024 on", "port"),
}
_OTHER = ("{host} is no address of this machine", "leave out --host, or name one", "host")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: if the address is not this machine's, or taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:  # the second of a name that no address can have
        reason, remedy, option = _REFUSALS.get(getattr(error, "errno", None) or 0, _OTHER)
        value = port if option == "port" else host
        raise UsageError(reason.format(host=host, port=port), remedy, option=option, value=value) from error


def is_public(listening: socket.socket) -> bool:
    """Tell whether other machines may reach it."""
    return not ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def address_of(listening: socket.socket) -> str:
    """What a browser on this machine opens, with a stroke at its end."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:  # which stands for all that the machine has
        host = "::1" if listening.family == socket.AF_INET6 else "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def names_of_this_machine() -> set[str]:
    name = socket.gethostname()
    return {name, f"{name}.local"}


def open_browser(address: str) -> None:
    """Show the page, where somebody sits in front of this machine: at a terminal, with a display."""
    is_here = sys.stderr.isatty() and "SSH_CONNECTION" not in os.environ
    if is_here and (sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
        webbrowser.open(address)


def run(app: Any, listening: socket.socket) -> None:
    """Answer until a signal comes, which then does what it does elsewhere: Ctrl-C raises KeyboardInterrupt."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_FAREWELL,
    )
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # what strangers send is not worth a warning
    uvicorn.Server(config).run(sockets=[listening])
