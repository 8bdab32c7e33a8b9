"""``simclrseg`` and ``python -m simclrseg``."""

from __future__ import annotations

import os


def main() -> None:
    """Answer the shell's request for completions, or run the command line."""
    if os.environ.get("_SIMCLRSEG_COMPLETE"):  # before Typer is imported: a shell waits
        from simclrseg.cli.completion import respond

        print(respond(os.environ))  # noqa: T201
        return
    from simclrseg.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
