"""``simclrseg`` and ``python -m simclrseg``."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Answer the shell's request for completions, or run the command line."""
    try:
        if os.environ.get("_SIMCLRSEG_COMPLETE"):  # before Typer is imported: a shell waits
            from simclrseg.cli.completion import respond

            print(respond(os.environ))  # noqa: T201
            return
        from simclrseg.cli.app import main as run

        run()
    except KeyboardInterrupt:  # while modules are imported, or once more at the end
        print("interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    finally:
        if "torch" not in sys.modules:  # some of what comes with it complains of objects that are left
            gc.freeze()  # else Python looks through all modules for garbage as it exits: 70 ms of a photo's 500


if __name__ == "__main__":
    main()
