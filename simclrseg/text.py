"""Text as it can be shown: names of strangers' files, addresses that hold passwords, values of any length."""

from __future__ import annotations

import os
import re

# Control characters of terminals (C0, DEL, C1), those that turn the direction of text, and two ends of lines; and
# halves of characters, of which the low ones stand for bytes that are no UTF-8. Joiners and wide spaces are of names.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST_WORD = 240  # characters
LONGEST_MESSAGE = 2_000
"""How much of a word, and of a whole message, is shown."""
_LOOKED_AT = 10 * LONGEST_MESSAGE
_BYTE = re.compile(r"\\u(dc[89a-f][0-9a-f])")
_MARKS = re.compile(r"[|<`]")
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")
_COMMAND = re.compile(r"(`[^`]*`)")
_IN_ADDRESS = (  # a path has one stroke behind the colon
    # user and password
    (re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}:/{1,2})[^/\s'\"?#\\]*@", re.IGNORECASE), r"\1"),
    (re.compile(r"(\bhttps?:/{1,2}[^\s'\"?\\]*\?)[^\s'\"\\]+", re.IGNORECASE), r"\1…"),  # a signature
    (re.compile(r"\bhf_[A-Za-z0-9]{8,}"), "hf_…"),
)
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN", "WANDB_API_KEY")
_ADDRESSES = re.compile(r"HF_ENDPOINT|(http|https|all|ftp)_proxy", re.IGNORECASE)
_SHORTEST_SECRET = 4  # characters; shorter ones stand in other words too
_SHORTEST_TOKEN = 12  # real ones have 37 and more; people write `none` or `disabled` where none shall be used


def printable(text: str) -> str:
    r"""The text of a name as it can be shown anywhere: in one line, and with nothing that a terminal obeys.

    What is unprintable is written as Python writes it: a new line as ``\n``, a byte that is no UTF-8 as ``\udce9``.
    """
    return text if text.isprintable() else _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def encodable(text: str) -> str:
    r"""The text as UTF-8 can hold it: a byte of a name that is no UTF-8 is written as ``\udce9``."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def in_markdown(text: str) -> str:
    """A name in a line of Markdown, or in a cell of a table: no mark-up, and no end of the cell."""
    return _MARKS.sub(r"\\\g<0>", printable(text))


def decoded(text: str) -> str:
    """A path as the system knows it, from what ``encodable`` made of it."""
    return _BYTE.sub(lambda match: chr(int(match[1], 16)), text)


def plain_addresses(text: str) -> str:
    """A text without the passwords and query strings of the addresses in it, and without what looks like a token."""
    for pattern, less in _IN_ADDRESS:
        text = pattern.sub(less, text)
    return text


def without_secrets(text: str) -> str:
    """The same, and without the tokens and passwords of the environment, wherever they stand in it."""
    text = plain_addresses(text)
    for secret in _secrets():
        text = text.replace(secret, "…")
    return text


def _secrets() -> list[str]:
    """The tokens of the environment, and the passwords of its addresses, the longest first."""
    tokens = (os.environ.get(name, "").strip() for name in _TOKENS)
    known = [token for token in tokens if len(token) >= _SHORTEST_TOKEN]
    for name, address in os.environ.items():
        if "@" in address and _ADDRESSES.fullmatch(name):
            _, _, password = address.rpartition("://")[2].rpartition("@")[0].partition(":")
            known.append(password)
    return sorted((secret for secret in known if len(secret) >= _SHORTEST_SECRET), key=len, reverse=True)


def in_one_line(error: BaseException, longest: int) -> str:
    """The start of what an error of a library says; its kind where it says nothing."""
    return " ".join(str(error).split())[:longest] or type(error).__name__


def shortened(text: str, longest: int) -> str:
    """The start and the end of a long text."""
    return text if len(text) <= longest else f"{text[: longest * 2 // 3]}…{text[len(text) - longest // 3 + 1 :]}"


def message(text: str) -> str:
    """A message as it is shown: one line, without secrets, and of long words, such as paths, the start and the end.

    Lines of what a library says are joined. Commands between backticks are not cut, so that they can be typed, unless
    the whole is very long.
    """
    lines = map(str.strip, without_secrets(shortened(text, _LOOKED_AT)).splitlines())
    parts = _COMMAND.split(printable(" ".join(filter(None, lines))))
    parts[::2] = [_LONG_WORD.sub(lambda word: shortened(word[0], LONGEST_WORD), part) for part in parts[::2]]
    return shortened("".join(parts), LONGEST_MESSAGE)
