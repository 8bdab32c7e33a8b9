"""Checkpoints of other tools: reading a pickle without running it, and finding an encoder somewhere inside."""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from torch import Tensor

from simclrseg.errors import WeightsError

INERT: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
]
"""Classes in checkpoints beside tensors, as settings and scores; making one of these does nothing else."""
LESSER = ("student", "encoder_k", "momentum")
"""Copies that their papers do not use afterwards: DINO takes the teacher, MoCo the encoder of queries."""
DEEPEST = 50  # dicts within dicts
_VIT = (
    ("class_token", "cls_token"),
    ("conv_proj", "patch_embed.proj"),
    ("encoder.pos_embedding", "pos_embed"),
    ("encoder.layers.encoder_layer_", "blocks."),
    ("ln_1", "norm1"),
    ("ln_2", "norm2"),
    ("self_attention.in_proj_", "attn.qkv."),
    ("self_attention.out_proj", "attn.proj"),
    ("mlp.linear_1", "mlp.fc1"),
    ("mlp.0", "mlp.fc1"),
    ("mlp.linear_2", "mlp.fc2"),
    ("mlp.3", "mlp.fc2"),
    ("encoder.ln", "norm"),
)
"""Names of the parts of a vision transformer: torchvision's, and timm's."""
_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))(\d)")


@dataclass(frozen=True)
class Found:
    """An encoder in a checkpoint."""

    tensors: Mapping[str, Tensor]  # of the dict that holds it
    keys: dict[str, str]  # the encoder's key -> the dict's, whatever the shapes
    place: str = ""  # of the dict in the checkpoint, as ``state_dict``; empty for the outermost
    prefix: str = ""  # that the dict's keys have
    score: int = 0  # how many tensors match in name and shape
    equals: tuple[str, ...] = ()  # other copies that match as many

    @property
    def name(self) -> str:
        return ".".join(part for part in (self.place, self.prefix.rstrip(".")) if part)


def read_pickle(path: Path) -> Any:
    """Read a file of ``torch.save`` to the CPU; nothing in it is run.

    Raises:
        WeightsError: if it holds more than tensors and plain values, or is no such file.
    """
    convert = "where it was made, write its tensors alone: torch.save(model.state_dict(), 'weights.pth')"
    try:
        with torch.serialization.safe_globals(INERT), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that torch did not write, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        kind = "of another kind than torch.save's, and is refused"
        if wanted := re.search(r"GLOBAL ([\w.]+)|Unsupported class ([\w.]+)", str(error)):
            kind = f"that asks for {wanted[1] or wanted[2]}, and is refused: a pickle can run any code"
        raise WeightsError(f"{path} is a pickle {kind}", convert, path=path) from None
    except Exception as error:  # a damaged pickle can raise anything
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path} is a TorchScript program, which could run any code", convert, path=path
            ) from None
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise WeightsError(f"{path} is no whole checkpoint ({reason})", "fetch it again", path=path) from error


def find_encoder(checkpoint: Any, own: Mapping[str, Tensor], children: Sequence[str]) -> Found:
    """The dict of tensors, the prefix and the spelling that match most of an encoder's tensors.

    Among equals, copies that are not LESSER come first, then what stands first.

    Args:
        own: the encoder's state.
        children: names of its parts, in order: what ``nn.Sequential`` calls 0, 1, ….
    """
    candidates = [
        found for place, tensors in tensor_dicts(checkpoint) for found in _candidates(place, tensors, own, children)
    ]
    best = max(
        candidates,
        key=lambda found: (found.score, -sum(word in found.name for word in LESSER)),
        default=Found({}, {}),
    )
    copies = {frozenset(best.keys.values())}
    equals = []
    for found in candidates:
        if found.score == best.score > 0 and (copy := frozenset(found.keys.values())) not in copies:
            copies.add(copy)
            equals.append(found.name)
    return replace(best, equals=tuple(equals))


def tensor_dicts(
    tree: Any, place: str = "", seen: frozenset[int] = frozenset()
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each dict that holds tensors, with the keys that lead to it; none that lies in itself, or absurdly deep."""
    if not isinstance(tree, Mapping) or id(tree) in seen or len(seen) > DEEPEST:
        return
    tensors = {key: value for key, value in tree.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for key, value in tree.items():
        yield from tensor_dicts(value, f"{place}.{key}" if place else str(key), seen | {id(tree)})


def _candidates(
    place: str, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], children: Sequence[str]
) -> Iterator[Found]:
    for spell_own, spell_theirs in _spellings(children):
        wanted = {key: spell_own(key) for key in own}
        theirs = {spell_theirs(key): key for key in tensors}
        for prefix in _prefixes(theirs, {name.split(".")[0] for name in wanted.values()}):
            keys = {key: theirs[prefix + name] for key, name in wanted.items() if prefix + name in theirs}
            score = sum(tensors[theirs_key].shape == own[key].shape for key, theirs_key in keys.items())
            yield Found(tensors, keys, place, prefix, score)


def _timm_vit(key: str) -> str:
    """timm's name for what torchvision's vision transformers call so."""
    for theirs, timms in _VIT:
        key = key.replace(theirs, timms)
    return key


def _prefixes(keys: Iterable[str], first: set[str]) -> list[str]:
    """Prefixes that may stand before an encoder's keys, whose first parts are given; the shortest first."""
    found = {
        key[: match.end()]
        for key in keys
        for match in re.finditer(r"^|\.", key)
        if key[match.end() :].split(".", 1)[0] in first
    }
    return sorted(found, key=len)


def _spellings(children: Sequence[str]) -> list[tuple[Callable[[str], str], Callable[[str], str]]]:
    """Spellings of an encoder's keys: functions of its key and of theirs that agree where both mean the same."""
    numbers = {name: str(number) for number, name in enumerate(children)}

    def numbered(key: str) -> str:
        first, dot, rest = key.partition(".")
        return numbers.get(first, first) + dot + rest

    return [
        (str, str),
        (numbered, str),  # nn.Sequential(*encoder.children()), as lightly's examples have it
        (lambda key: _DENSE.sub(r"\1.\2", key), str),  # densenets before torchvision 0.3
        (str, _timm_vit),
        # timm's models, where ours is timm's feature extractor around one: `stages.0.` is `model.stages_0.`
        (lambda key: key.removeprefix("model.").replace("_", "."), lambda key: key.replace("_", ".")),
    ]
