"""Weights files: safetensors with their metadata, and loading what matches into an encoder, with a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from simclrseg.errors import ModelFileError, WeightsError
from simclrseg.files import replacing
from simclrseg.metadata import RGB, ModelMetadata
from simclrseg.models import stems
from simclrseg.models.bands import adapt_bands

PICKLES = (".ckpt", ".pth", ".pt", ".bin")
COUNTER = "num_batches_tracked"  # batch norm's step counter; old files lack it and inference has no use for it


@dataclass(frozen=True)
class LoadReport:
    """What of an encoder came from a file.

    ``missing`` and ``mismatched`` are the encoder's keys (the latter with both shapes), ``left_out`` the file's.
    """

    loaded: int
    total: int
    missing: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    prefix: str = ""
    adapted: str = ""
    """What was done to the first layer, where the file's network takes other bands."""

    def __str__(self) -> str:
        parts = [f"loaded {self.loaded} of {self.total} tensors"]
        if self.prefix:
            parts.append(f"prefix {self.prefix!r} removed")
        if self.adapted:
            parts.append(self.adapted)
        for what, keys in (("missing", self.missing), ("of another shape", self.mismatched)):
            if keys:
                parts.append(f"{what}: {_few(keys)}")
        if self.left_out:
            parts.append(f"left out: {', '.join(dict.fromkeys(key.split('.')[0] for key in self.left_out))}")
        return "; ".join(parts)


def save_weights(path: Path, state_dict: Mapping[str, Tensor], metadata: ModelMetadata) -> None:
    """Write weights and metadata as one safetensors file, whole or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    # clones, because safetensors refuses tensors that share memory
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    with replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt", **metadata.to_strings()})


def read_weights(path: Path) -> tuple[dict[str, Tensor], ModelMetadata | None]:
    """All tensors of a safetensors file, on the CPU, and its metadata (None when it is not ours).

    Raises:
        WeightsError: if it cannot be read.
    """
    metadata = read_metadata(path)
    try:
        return safetensors.torch.load_file(path, device="cpu"), metadata
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error


def read_metadata(path: Path) -> ModelMetadata | None:
    """What a safetensors file says of itself, without reading its tensors; None when it is not ours.

    Raises:
        WeightsError: if it cannot be read.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is a folder, not a weights file" if path.is_dir() else f"{path}: no such file")
    if path.suffix in PICKLES:
        raise WeightsError(
            f"{path} is a pickled checkpoint, which can run code when it is opened: only .safetensors is read; "
            "convert its state_dict with safetensors.torch.save_file"
        )
    try:
        with safetensors.safe_open(path, framework="np") as file:
            header = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} {_what_it_is(path) or f'is no whole safetensors file ({error})'}") from error
    try:
        return ModelMetadata.from_strings(header)
    except ModelFileError as error:
        raise WeightsError(f"{path}: {error}") from error


def load_backbone(
    backbone: nn.Module, path: Path, *, bands: Sequence[str] = RGB, minimum: float = 0.9, what: str = "encoder"
) -> LoadReport:
    """Load an encoder's weights from a file of its own, or out of a whole model's; or another part's, as a decoder's.

    The prefix that matches most tensors is removed from the file's keys. The encoder is changed only if enough matched.

    Args:
        bands: that the encoder takes; the first layer of a file for others is adapted to them.
        minimum: least share of the encoder's tensors that must match in name and shape, in [0, 1].
        what: how messages call it.

    Raises:
        WeightsError: if the file cannot be read or too little of it matches.
    """
    tensors, metadata = read_weights(path)
    if metadata is not None and metadata.stem == "cifar" and stems.has_cifar_stem(backbone):
        tensors = stems.restored(tensors)
    state = backbone.state_dict()
    inner = timm_prefix(state)
    own = {key.removeprefix(inner): tensor for key, tensor in state.items()}
    prefix = _best_prefix(tensors, own)
    theirs = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    theirs, adapted = adapt_bands(theirs, own, bands=metadata.bands if metadata else RGB, wanted=bands)
    matching = {key: theirs[key] for key in own if key in theirs and theirs[key].shape == own[key].shape}
    wanted = [key for key in own if key in matching or not key.endswith(COUNTER)]
    report = LoadReport(
        loaded=len(matching),
        total=len(wanted),
        missing=[key for key in wanted if key not in theirs],
        mismatched=[
            f"{key} {tuple(theirs[key].shape)} for {tuple(own[key].shape)}"
            for key in wanted
            if key in theirs and key not in matching
        ],
        left_out=[key for key in tensors if not key.startswith(prefix) or key.removeprefix(prefix) not in own],
        prefix=prefix,
        adapted=adapted,
    )
    if report.loaded < minimum * report.total:
        raise WeightsError(
            f"{path} does not fit this {what}: {report.loaded} of {report.total} tensors match, "
            f"at least {minimum:.0%} must; the file has {_few(list(tensors))}, "
            f"the {what} has {_few([key for key in wanted if key not in matching])}"
        )
    # Module's own method: those of smp's encoders take keys out of the caller's dict and return nothing
    nn.Module.load_state_dict(backbone, {inner + key: tensor for key, tensor in matching.items()}, strict=False)
    return report


def timm_prefix(state: Mapping[str, Tensor]) -> str:
    """Where smp's encoders around a model of timm keep it: ``model.``; files hold timm's own keys. Else empty."""
    return "model." if all(key.startswith("model.") for key in state) else ""


def _best_prefix(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """The start of the file's keys whose removal lets most tensors match; the shortest among equals."""
    candidates = {""} | {key[: dot.end()] for key in tensors for dot in re.finditer(r"\.", key)}

    def matches(prefix: str) -> int:
        return sum(1 for key, tensor in own.items() if _shape(tensors.get(prefix + key)) == tensor.shape)

    return max(sorted(candidates, key=len), key=matches)


def _shape(tensor: Tensor | None) -> object:
    return None if tensor is None else tensor.shape


def _what_it_is(path: Path) -> str | None:
    """A file that is plainly something else, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "is empty"
    if start.startswith(b"version https://git-lfs"):
        return "is only a pointer of Git LFS: fetch the file itself with `git lfs pull`"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "is a web page: the download went wrong"
    if start.startswith((b"PK", b"\x80\x02")):
        return "is a pickled checkpoint under another name: only .safetensors is read"
    return None


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
