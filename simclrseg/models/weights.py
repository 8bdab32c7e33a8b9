"""Weights files: safetensors with their metadata, and loading what matches into an encoder, with a report."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from simclrseg.errors import ModelFileError, WeightsError
from simclrseg.metadata import RGB, ModelMetadata
from simclrseg.models.foreign import Found, find_encoder, parts_beyond
from simclrseg.models.pickles import read_pickle
from simclrseg.models.stems import adapt_first_layer
from simclrseg.models.vit import ViTEncoder, fit_positions
from simclrseg.runs.names import PICKLES
from simclrseg.system import checksum
from simclrseg.system.files import replacing
from simclrseg.system.identify import CHECKPOINT, what_it_is, why_no_model, why_not_a_file
from simclrseg.text import in_one_line

log = logging.getLogger(__name__)

_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.\w+$")
_ANOTHER = "choose the --backbone that it is of"
_WHOLE = "fetch it again, or take the weights that its run keeps under checkpoints/ with --pretrained"
COUNTER = "num_batches_tracked"  # batch norm's step counter; old files lack it and inference has no use for it


@dataclass(frozen=True)
class LoadReport:
    """A report of the tensors that came from a file."""

    loaded: int
    total: int
    missing: list[str]  # the encoder's keys
    mismatched: list[str]  # the same, with both shapes
    left_out: list[str]  # the file's keys
    beside: list[str]  # the parts of the file's network that these are of, whole ones first
    prefix: str  # that its keys have, where the encoder was
    place: str  # of the dict that holds it, as ``state_dict``; empty for the outermost
    equals: list[str]  # what would have fitted as well
    adapted: list[str]  # what was done, or could be, about the shape of the first layers

    def __str__(self) -> str:
        parts = [f"loaded {self.loaded} of {self.total} tensors"]
        if self.place:
            parts.append(f"from {self.place!r}")
        if self.prefix:
            parts.append(f"prefix {self.prefix!r} removed")
        if self.equals:
            parts.append(f"{_few(list(map(repr, self.equals)))} would fit as well")
        for what, keys in (("missing", self.missing), ("of another shape", self.mismatched)):
            if keys:
                parts.append(f"{what}: {_few(keys)}")
        parts += self.adapted
        if self.beside:
            parts.append(f"left out: {_few(self.beside)}")
        return "; ".join(parts)


def save_weights(path: Path, state_dict: Mapping[str, Tensor], metadata: ModelMetadata) -> None:
    """Write weights and metadata as one safetensors file, whole or not at all."""
    # clones, because safetensors refuses tensors that share memory
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    with replacing(path) as temporary:
        header = {"format": "pt", **metadata.to_strings(), **checksum.UNSEALED}
        safetensors.torch.save_file(tensors, temporary, metadata=header)
        checksum.seal_safetensors(temporary)


def read_weights(path: Path) -> tuple[dict[str, Tensor], ModelMetadata | None]:
    """All tensors of a safetensors file, on the CPU, and its metadata (None when it is not ours).

    Raises:
        WeightsError: if it cannot be read, or is damaged.
    """
    metadata = read_metadata(path)
    if is_pickle(path):
        raise WeightsError(f"{path} is a pickled checkpoint, and only .safetensors is read as a whole model", path=path)
    try:
        return safetensors.torch.load_file(path, device="cpu"), metadata
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", path=path) from error


def read_metadata(path: Path) -> ModelMetadata | None:
    """Read the metadata of a weights file, and not its tensors; None when it is not ours.

    Raises:
        WeightsError: if it cannot be read, or is damaged.
    """
    if reason := why_not_a_file(path):
        raise WeightsError(f"{path}: {reason}", path=path)
    if reason := why_no_model(path):
        raise WeightsError(f"{path}: {reason}", "rename it", path=path)
    if is_pickle(path):
        return None
    try:
        if checksum.is_damaged(path):
            raise WeightsError(f"{path} {checksum.DAMAGED}", _WHOLE, path=path)
        with safetensors.safe_open(path, framework="np") as file:
            header = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        what = what_it_is(path) or f"is no whole safetensors file ({error})"
        if path.suffix == ".onnx":
            what = "is a model to predict with, and not weights to train on: name its run, or the file it came from"
        raise WeightsError(
            f"{path} {what}", "call it .pth to have it read" if what == CHECKPOINT else "", path=path
        ) from error
    try:
        return ModelMetadata.from_strings(header)
    except ModelFileError as error:
        raise WeightsError(f"{path}: {error}", path=path) from error


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load a whole network from a file's tensors, none more and none less, and set it to evaluation mode."""
    try:
        nn.Module.load_state_dict(model, tensors, strict=True)
    except RuntimeError as error:
        reason = in_one_line(error, 200)
        raise WeightsError(f"{path} does not match the network its metadata describe: {reason}", path=path) from error
    model.eval()


def read_checkpoint(path: Path) -> tuple[Any, ModelMetadata | None]:
    """All that a weights file of any tool holds: tensors by name, perhaps in dicts of dicts; and our metadata.

    Raises:
        WeightsError: if it cannot be read, or is a pickle that holds more than tensors and plain values.
    """
    metadata = read_metadata(path)
    if (part := _SHARD.search(path.name)) and int(part[1]) > 1:
        remedy = "join them where the model is at hand: model.save_pretrained(folder, max_shard_size='100GB')"
        raise WeightsError(f"{path} is one of the {int(part[1])} files of a model", remedy, path=path)
    if not is_pickle(path):
        return read_weights(path)[0], metadata
    if (what := what_it_is(path)) and what != CHECKPOINT:
        raise WeightsError(f"{path} {what}", path=path)
    return read_pickle(path), None


def load_backbone(
    backbone: nn.Module,
    path: Path,
    *,
    bands: Sequence[str] = RGB,
    minimum: float = 0.9,
    adapt: Collection[str] = (),
    what: str = "encoder",
) -> LoadReport:
    """Load an encoder's weights from a file of its own, or out of a whole model's or a checkpoint of another tool.

    So it does with another part's, such as a decoder's. What fits best is found by names and shapes (foreign.py). The
    encoder is changed only if enough matched; a first layer that ``adapt`` could fit may differ, and stays random.

    Args:
        bands: that the encoder takes. The first layer of a file of ours for other bands is adapted to them.
        minimum: least share of the encoder's tensors that must match in name and shape, in [0, 1].
        adapt: which differences of another tool's first layer are bridged, of ``bands`` and ``stem``.
        what: how messages call it.

    Raises:
        WeightsError: if the file cannot be read, too little of it matches, it is of another network though most of it
            matches, or its values are none of a trained one.
    """
    checkpoint, metadata = read_checkpoint(path)
    state = backbone.state_dict()
    inner, own = _timm_prefix(state), portable(state)
    children = backbone.get_submodule(inner.rstrip(".")).named_children()
    found = find_encoder(checkpoint, own, [name for name, _ in children])
    theirs = {key: found.tensors[other] for key, other in found.keys.items()}
    theirs, adapted, adaptable = adapt_first_layer(theirs, own, adapt, metadata=metadata, wanted=bands)
    if isinstance(backbone, ViTEncoder):
        theirs, line = fit_positions(theirs, backbone)
        adapted += [line] if line else []
    matching = {key: tensor for key, tensor in theirs.items() if tensor.shape == own[key].shape}
    report = _report(found, own, theirs, adapted)
    if report.loaded < minimum * report.total:
        raise WeightsError(
            f"{path} does not fit this {what}: {report.loaded} of {report.total} tensors match, at least "
            f"{minimum:.0%} must; the file has {_few(list(found.tensors)) or 'no tensors'}, the {what} has "
            f"{_few([key for key in own if key not in matching and not key.endswith(COUNTER)])}",
            path=path,
        )
    which, has, remedy = _difference(found, report, adaptable)
    if which == "a deeper" and (deeper := _deeper_encoder(checkpoint, backbone, len(bands))):
        remedy = f"pass --backbone {deeper}"
    if which:
        raise WeightsError(f"{path} is of {which} network than this {what}: it has {has}", remedy, path=path)
    _check_values(matching, own, path, minimum)
    if report.mismatched:
        log.warning(f"{path.name}: {_few(report.mismatched)}: stays random")
    if report.missing:
        log.warning(f"{path.name} lacks {_few(report.missing)}: what it lacks stays random")
    # Module's own method: those of smp's encoders take keys out of the caller's dict and return nothing
    nn.Module.load_state_dict(backbone, {inner + key: tensor for key, tensor in matching.items()}, strict=False)
    return report


def _report(
    found: Found, own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], adapted: Sequence[str]
) -> LoadReport:
    """Compare the encoder's tensors and those that were found for them."""
    matching = {key for key, tensor in theirs.items() if tensor.shape == own[key].shape}
    wanted = [key for key in own if key in matching or not key.endswith(COUNTER)]
    used = set(found.keys.values())
    left_out = [key for key in found.tensors if key not in used]
    return LoadReport(
        loaded=len(matching),
        total=len(wanted),
        missing=[key for key in wanted if key not in theirs],
        mismatched=[
            f"{key} {tuple(theirs[key].shape)} for {tuple(own[key].shape)}"
            for key in wanted
            if key in theirs and key not in matching
        ],
        left_out=left_out,
        beside=sorted(dict.fromkeys(map(found.called, left_out)), key=lambda part: "." in part),
        prefix=found.prefix,
        place=found.place,
        equals=list(found.equals),
        adapted=list(adapted),
    )


def _difference(found: Found, report: LoadReport, adaptable: str) -> tuple[str, str, str]:
    """How the file's network differs from the encoder though most of it matches; all empty where it does not.

    Args:
        adaptable: the first layer's key where --adapt would fit it: it may differ, and stays random.

    Returns:
        Which network the file is of, what it has, and what can be done.
    """
    blocks, parts = parts_beyond(found)
    if blocks:
        return "a deeper", f"{_few(blocks)} beyond it", _ANOTHER
    if parts:
        remedy = f"{_ANOTHER}, or leave them out of the file where its network works without them"
        return "another", f"{_few(parts)} beside what matches", remedy
    if strange := [text for text in report.mismatched if text.split(" ")[0] != adaptable]:
        remedy = f"{_ANOTHER}: --adapt fits nothing but a first layer of other bands, or one of 3 x 3 to one of 7 x 7"
        return "another", _few(strange), remedy
    return "", "", ""


def _deeper_encoder(checkpoint: Any, backbone: nn.Module, bands: int) -> str:
    """The name of an encoder of the same kind that a checkpoint fits whole; empty where none is known."""
    for name, entry in smp.encoders.encoders.items():
        if entry["encoder"] is not type(backbone):
            continue
        other = None
        with suppress(RuntimeError), torch.device("meta"):  # some ask for numbers while they are made
            other = smp.encoders.get_encoder(name, weights=None, in_channels=bands)
        if other is None:
            continue
        own = {key: tensor for key, tensor in other.state_dict().items() if not key.endswith(COUNTER)}
        found = find_encoder(checkpoint, own, [child for child, _ in other.named_children()])
        if found.score == len(own) and not any(parts_beyond(found)):
            return str(name)
    return ""


def _check_values(theirs: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, minimum: float) -> None:
    """Refuse tensors that are no floating-point numbers where these are needed, or not finite, or of one value each.

    Those of 8 bits were quantised too, and have their scale elsewhere.
    """
    weights = {key: tensor for key, tensor in theirs.items() if own[key].is_floating_point()}
    kinds = {key: str(tensor.dtype).removeprefix("torch.") for key, tensor in weights.items()}
    floats = {key for key, tensor in weights.items() if tensor.is_floating_point() and tensor.itemsize > 1}
    if other := [f"{key} ({kind})" for key, kind in kinds.items() if key not in floats]:
        remedy = "take the weights before they were quantised"
        raise WeightsError(
            f"{path} holds no floating-point weights of 16 or more bits: {_few(other)}", remedy, path=path
        )
    if broken := [key for key, tensor in weights.items() if not tensor.isfinite().all()]:
        remedy = "take an earlier checkpoint: this training had diverged"
        raise WeightsError(f"{path} holds NaN or infinite weights: {_few(broken)}", remedy, path=path)
    kernels = {key: tensor for key, tensor in weights.items() if tensor.ndim > 1 and tensor.numel() > 1}
    flat = [f"{key} ({tensor.flatten()[0]:g})" for key, tensor in kernels.items() if tensor.min() == tensor.max()]
    if len(kernels) - len(flat) < minimum * len(kernels):
        reason = f"{path} holds weights that are all one value: {_few(flat)}"
        raise WeightsError(reason, "it was never trained, or not written whole: fetch it again", path=path)


def portable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's state under the keys that torchvision's or timm's own model has; other states stay."""
    inner = _timm_prefix(state)
    return {key.removeprefix(inner): tensor for key, tensor in state.items()}


def _timm_prefix(state: Mapping[str, Tensor]) -> str:
    """``model.``, where smp's encoders around a model of timm keep it; files hold timm's own keys. Else empty."""
    return "model." if all(key.startswith("model.") for key in state) else ""


def is_pickle(path: Path) -> bool:
    """Tell by its name if a file is a pickle, unless it is a safetensors file under that name."""
    with path.open("rb") as file:
        return path.name.endswith(PICKLES) and file.read(9)[8:] != b"{"


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
