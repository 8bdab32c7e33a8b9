"""Checkpoints of ``torch.save``, read without running anything that is in them.

A pickle is a program that names functions and has them called. Here no name is imported: each stands for itself, a call
gives an inert ``Stranger``, and only the few that rebuild tensors and dicts mean something. torch's own restricted
reader refuses a file for one unknown name, as of a path or a callback, which has nothing to do with its weights.
"""

from __future__ import annotations

import gc
import io
import math
import pickle
import types
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simclrseg.errors import WeightsError
from simclrseg.system.identify import TENSORS_ALONE, why_not_unpacked
from simclrseg.text import in_one_line

_BLOCK = 1 << 20  # bytes read at once


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names, and which is not looked up."""

    text: str

    @property
    def __name__(self) -> str:
        return self.text

    def __str__(self) -> str:
        return self.text


_MOST_STEPS = 3_000_000
"""Steps of a pickle that are taken, each about a microsecond: a checkpoint of 1,000 tensors has 35,000."""
_UNSTORED = 1 << 26
"""Bytes that a tensor may stand for beyond those that it is stored in: an expanded one stands for any number."""
_WIDEST_KEY = 100  # parts of a tuple that is a key


class Stranger(dict[Any, Any]):
    """In the place of an object of any class: a dict of its attributes and items, which does nothing."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # it may be a key
    __eq__ = object.__eq__


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor | Stranger:
    """What ``torch._utils._rebuild_tensor_v2`` makes, without hooks."""
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError("a tensor without a storage")
    if _is_expanded(storage, size):
        return Stranger()
    tensor: Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
    return tensor


def _is_expanded(storage: torch.storage.TypedStorage, size: tuple[int, ...]) -> bool:
    """Tell whether a tensor would take far more memory by itself than it has in the file."""
    return math.prod(size) * storage.dtype.itemsize > storage._untyped_storage.nbytes() + _UNSTORED


def _tensor_of_a_rare_type(
    storage: Any,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    grad: bool,
    hooks: Any,
    kind: Any,
    *_: Any,
) -> Tensor | Stranger:
    """What ``torch._utils._rebuild_tensor_v3`` makes, of types that have no storage of their own, as of 8 bits."""
    if not isinstance(storage, torch.storage.TypedStorage) or str(kind) not in _TYPES:
        raise pickle.UnpicklingError("a tensor without a storage")
    if _is_expanded(storage, size):
        return Stranger()
    return torch.empty(0, dtype=_TYPES[str(kind)]).set_(storage._untyped_storage, offset, size, stride)


_TYPES = {str(kind): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}


def _with_attributes(function: Any, kind: Any, arguments: tuple[Any, ...], state: Any) -> Any:
    return _call(function, arguments)


_MEANT: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): {_key(key): value for key, value in pairs},
    "torch._tensor._rebuild_from_type_v2": _with_attributes,  # buffers, and tensors with attributes
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_a_rare_type,
}


def _call(function: Any, arguments: Any) -> Any:
    meant = _MEANT.get(function.text) if isinstance(function, Name) else None
    return meant(*arguments) if meant else Stranger()


def _key(value: Any) -> Any:
    """What may be hashed in the place of a key: a tuple of tuples of … takes for ever, or more stack than there is."""
    parts, waiting = 0, [value]
    while waiting:
        part = waiting.pop()
        parts += 1
        if isinstance(part, tuple):
            waiting.extend(part[: _WIDEST_KEY + 1])
        if parts + len(waiting) > _WIDEST_KEY:
            return Stranger()
    return value


def _is_deep(value: Any) -> bool:
    return isinstance(value, tuple) and any(isinstance(part, tuple) for part in value)


_Steps: Any = pickle._Unpickler  # the one written in Python, a method a step, of which nothing states the types


class _Unpickler(_Steps):  # type: ignore[misc]
    """Whatever would import, call, or ask an object to change itself is replaced below; the other steps hold data.

    torch's functions that use it derive from it, and add the storages.

    Attributes:
        sizes: bytes of the file's storages by their keys, where they are known: torch 2.8 believes the pickle.
    """

    sizes: Mapping[str, int] = {}

    def load(self) -> Any:
        """As of the base, but for so many steps."""
        self._unframer = pickle._Unframer(self._file_read, self._file_readline)  # type: ignore[attr-defined]
        self.read, self.readline = self._unframer.read, self._unframer.readline
        self.metastack: list[Any] = []
        self.stack: list[Any] = []
        self.proto = 0
        self.append = self.stack.append
        collects = gc.isenabled()
        gc.disable()  # it would look at all that was made again and again
        try:
            for _ in range(_MOST_STEPS):
                if not (step := self.read(1)):
                    raise EOFError("it ends early")
                self.dispatch[step[0]](self)
        except pickle._Stop as end:  # type: ignore[attr-defined]
            return end.value
        finally:
            if collects:
                gc.enable()
        raise pickle.UnpicklingError(f"it takes more than {_MOST_STEPS:,} steps to read")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "UntypedStorage"):  # torch asks which it is, and makes its own
            return torch.UntypedStorage
        return Name(f"{module}.{name}")

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("a number in the place of a name")  # from a table of the process

    def _instantiate(self, kind: Any, arguments: Any) -> None:
        self.append(Stranger())

    def load_newobj(self) -> None:
        del self.stack[-2:]
        self.append(Stranger())

    def load_newobj_ex(self) -> None:
        del self.stack[-3:]
        self.append(Stranger())

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _call(self.stack[-1], arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Stranger):
            for part in state if isinstance(state, tuple) else (state,):  # a tuple has those of __slots__ too
                if isinstance(part, dict):
                    self.stack[-1].update(part)

    def load_binpersid(self) -> None:
        which = self.stack.pop()
        if not isinstance(which, tuple) or any(map(_is_deep, which)):
            raise pickle.UnpicklingError("a storage without a name")
        storage = self.persistent_load(which)
        if len(which) > 2 and isinstance(storage, torch.storage.TypedStorage):
            own = storage._untyped_storage.nbytes()
            if self.sizes.get(str(which[2]), own) != own:
                raise pickle.UnpicklingError("a storage of another size than the file has")
        self.append(storage)

    def load_bytearray8(self) -> None:
        raise pickle.UnpicklingError("an array of bytes")  # which is reserved before it is read

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)})

    def load_frozenset(self) -> None:
        self.append(frozenset(map(_key, self.pop_mark())))

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def load_setitems(self) -> None:
        self._update(self.pop_mark())

    def _update(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update((_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True))

    def load_additems(self) -> None:
        items = self.pop_mark()
        if isinstance(self.stack[-1], set):
            self.stack[-1].update(map(_key, items))

    dispatch = _Steps.dispatch | {
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.ADDITEMS[0]: load_additems,
        pickle.BINPERSID[0]: load_binpersid,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.DICT[0]: load_dict,
        pickle.FROZENSET[0]: load_frozenset,
    }


def _reader(sizes: Mapping[str, int]) -> types.SimpleNamespace:
    """What torch takes for its pickle module."""
    unpickler = type("_Unpickler", (_Unpickler,), {"sizes": sizes})
    return types.SimpleNamespace(Unpickler=unpickler, load=lambda file, **options: unpickler(file, **options).load())


def read_pickle(path: Path) -> Any:
    """Read a file of ``torch.save`` to the CPU; nothing in it is run, and what is no tensor or plain value is inert.

    Raises:
        WeightsError: if it is no such file, or not whole.
    """
    # not torch.load, which would run TorchScript, unpack a tar, and look into the environment for what is allowed
    loading = torch.serialization
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as file:
                zipped = file.read(4) == b"PK\x03\x04"
            if not zipped:  # as torch wrote it before 1.6
                content = io.BytesIO(path.read_bytes())
                return loading._legacy_load(content, "cpu", _reader({}), encoding="utf-8")
            with zipfile.ZipFile(path) as archive:
                if what := why_not_unpacked(archive):
                    raise WeightsError(f"{path} {what}", TENSORS_ALONE, path=path)
                parts = [(part.filename.rpartition("/data/")[2], part.file_size) for part in archive.infolist()]
            _check_sums(path)
            with loading._open_zipfile_reader(str(path)) as reader:
                if not loading._is_torchscript_zip(reader):
                    return loading._load(reader, "cpu", _reader(dict(parts)), encoding="utf-8")
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = in_one_line(error, 120)
        raise WeightsError(f"{path} is no whole checkpoint ({reason})", "fetch it again", path=path) from error
    raise WeightsError(f"{path} is a TorchScript program, which could run any code", TENSORS_ALONE, path=path)


def _check_sums(path: Path) -> None:
    """Raise BadZipFile where a part has another checksum than was written, which torch does not look at.

    It can be told to write none, which is zero.
    """
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.CRC and part.compress_type == zipfile.ZIP_STORED:
                with archive.open(part) as content:
                    while content.read(_BLOCK):
                        pass
