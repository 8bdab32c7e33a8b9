"""What a system grants to a process or a user, files open at once and threads: one line where there are no more."""

from __future__ import annotations

import errno
import re

from simclrseg.errors import UsageError

NO_HANDLES = frozenset({errno.EMFILE, errno.ENFILE})
"""Error numbers of too many open files, whatever was to be opened."""
_NO_HANDLES = re.compile(r"too many open files", re.IGNORECASE)
# in the words of Python, and of libraries in C++
_NO_THREADS = re.compile(r"can.t start new thread|pthread_create|thread (creation|constructor) failed", re.IGNORECASE)


def used_up(error: BaseException | None) -> UsageError | None:
    """The one line for an error that comes of there being no more files or threads, in whosever words; else None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = error.errno if isinstance(error, OSError) else None
        if number in NO_HANDLES or (number is None and _NO_HANDLES.search(str(error))):
            return UsageError(
                "too many files are open at once",
                "allow more with `ulimit -n 4096`, or take fewer --workers",
                option="workers",
            )
        if number == errno.EAGAIN or (isinstance(error, RuntimeError) and _NO_THREADS.search(str(error))):
            return UsageError(
                "the system starts no more threads or processes for this user",
                "end other programs, allow more with `ulimit -u`, or take fewer --workers",
                option="workers",
            )
        error = error.__cause__ or error.__context__
    return None
