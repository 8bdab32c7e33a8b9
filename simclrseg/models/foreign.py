"""Checkpoints of other tools: finding an encoder somewhere inside, however they call its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

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
_TRANSFORMERS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    # ResNet
    (r"\bembedder\.embedder\.convolution\b", "conv1"),
    (r"\bembedder\.embedder\.normalization\b", "bn1"),
    (r"\bencoder\.stages\.(\d)\.layers\.(?=\d+\.(layer|shortcut)\.)", lambda match: f"layer{int(match[1]) + 1}."),
    (r"\blayer\.(\d)\.convolution\b", lambda match: f"conv{int(match[1]) + 1}"),
    (r"\blayer\.(\d)\.normalization\b", lambda match: f"bn{int(match[1]) + 1}"),
    (r"\bshortcut\.convolution\b", "downsample.0"),
    (r"\bshortcut\.normalization\b", "downsample.1"),
    # ConvNeXt and ConvNeXt V2
    (r"\bembeddings\.patch_embeddings\.(weight|bias)$", r"stem.0.\1"),
    (r"\bembeddings\.layernorm\b", "stem.1"),
    (r"\bencoder\.(stages\.\d)\.downsampling_layer\b", r"\1.downsample"),
    (r"\bencoder\.(stages\.\d)\.layers\b", r"\1.blocks"),
    (r"\bdwconv\b", "conv_dw"),
    (r"(\bblocks\.\d+)\.layernorm\b", r"\1.norm"),
    (r"\bpwconv([12])\b", r"mlp.fc\1"),
    (r"\bgrn\b", "mlp.grn"),
    (r"\blayer_scale_parameter$", "gamma"),
    # ViT and DINOv2, whose own names for registers and gates are here too
    (r"\bembeddings\.patch_embeddings\.projection\b", "patch_embed.proj"),
    (r"\bembeddings\.position_embeddings$", "pos_embed"),
    (r"\bembeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"\bregister_tokens$", "reg_token"),
    (r"\bencoder\.layer\b", "blocks"),
    (r"\battention\.attention\b", "attn"),
    (r"\battention\.output\.dense\b", "attn.proj"),
    (r"\blayernorm_before\b", "norm1"),
    (r"\blayernorm_after\b", "norm2"),
    (r"\bintermediate\.dense\b", "mlp.fc1"),
    (r"(\bblocks\.\d+)\.output\.dense\b", r"\1.mlp.fc2"),
    (r"\bmlp\.(weights_in|w12)\b", "mlp.fc1"),
    (r"\bmlp\.(weights_out|w3)\b", "mlp.fc2"),
    (r"\blayer_scale([12])\.lambda1$", r"ls\1.gamma"),
    (r"\blayernorm\b", "norm"),
)
"""Names of the parts of transformers' models -> those of timm, which for a ResNet are torchvision's; one by one."""
_DERIVED = ("attn_mask", "relative_coords_table", "total_ops", "total_params")
"""Buffers that a network computes by itself, or a counter of operations has left in it."""
_VECTOR = re.compile(r"weight|\w*bias|gamma\w*")
"""Names of what a network has learned for each channel: other vectors are buffers, as of quantisation or DropBlock."""
_THEIRS = re.compile(r"\b(embedder\.embedder|embeddings\.patch_embeddings)\.|\bregister_tokens$")
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

    @cached_property
    def heads(self) -> frozenset[str]:
        """Parts of the dict's network, by their keys' beginnings, in which something of the encoder stands."""
        return frozenset(key[: dot.start()] for key in self.keys.values() for dot in re.finditer(r"\.", key))

    def outermost(self, key: str) -> tuple[str, str]:
        """The largest part around a key of the dict that holds nothing of the encoder, and the part that holds it."""
        around = ""
        for end in (*(dot.start() for dot in re.finditer(r"\.", key)), len(key)):
            if key[:end] not in self.heads:
                return key[:end], around
            around = key[:end]
        return key, around

    def called(self, key: str) -> str:
        """The same part as the encoder's keys would have it, without the prefix."""
        part, _ = self.outermost(key)
        return part[len(self.prefix) :] if part.startswith(self.prefix) else _word(part)


def find_encoder(checkpoint: Any, own: Mapping[str, Tensor], children: Sequence[str]) -> Found:
    """The dict of tensors, the prefix and the spelling that match most of an encoder's tensors.

    Among equals, copies that are not LESSER come first, then what stands first.

    Args:
        own: the encoder's state.
        children: names of its parts, in order: what ``nn.Sequential`` calls 0, 1, ….
    """
    candidates = [
        found
        for place, tensors in tensor_dicts(checkpoint)
        for found in _candidates(place, as_timm_calls_them(tensors), own, children)
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


def tensor_dicts(tree: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each dict that holds tensors, with the keys that lead to it; each once, and none absurdly deep."""
    waiting, seen = [("", tree, 0)], set[int]()
    while waiting:
        place, branch, depth = waiting.pop()
        if not isinstance(branch, Mapping) or id(branch) in seen or depth > DEEPEST:
            continue
        if "_modules" in branch:
            tensors, inner = dict(_state_of(branch, seen)), dict[Any, Any]()
        else:
            seen.add(id(branch))
            tensors = {
                key: value for key, value in branch.items() if isinstance(key, str) and isinstance(value, Tensor)
            }
            inner = dict(branch)
        if tensors:
            yield place, tensors
        # a key may be anything that was pickled, of which torch writes some out at length
        names = (str(key) if isinstance(key, str | int) else type(key).__name__ for key in inner)
        below = [
            (f"{place}.{name}" if place else name, value, depth + 1)
            for name, value in zip(names, inner.values(), strict=True)
        ]
        waiting.extend(reversed(below))


def _state_of(module: Mapping[str, Any], seen: set[int], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a pickled module by the names of its state, from its attributes alone."""
    if id(module) in seen or prefix.count(".") > DEEPEST:
        return
    seen.add(id(module))
    own, buffers, children = (
        part if isinstance(part := module.get(kind), Mapping) else {}
        for kind in ("_parameters", "_buffers", "_modules")
    )
    yield from ((f"{prefix}{key}", value) for key, value in {**own, **buffers}.items() if isinstance(value, Tensor))
    for key, child in children.items():
        if isinstance(child, Mapping):
            yield from _state_of(child, seen, f"{prefix}{key}.")


def as_timm_calls_them(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a model of transformers by the names and in the shapes that timm has for them; others stay."""
    if not any(map(_THEIRS.search, tensors)):
        return tensors
    named: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        for theirs, timms in _TRANSFORMERS:
            key = re.sub(theirs, timms, key)
        named[key] = tensor.flatten() if ".grn." in key else tensor
    for key in list(named):
        if (first := re.sub(r"\battn\.query\b", "attn.{}", key)) != key:  # timm has the three in one
            parts = [first.format(part) for part in ("query", "key", "value")]
            if named.keys() >= set(parts):
                named[first.format("qkv")] = torch.cat([named.pop(part) for part in parts])
        elif key.endswith("reg_token"):  # timm's positions are of patches alone then, and the class token has its own
            token, positions = (key.removesuffix("reg_token") + name for name in ("cls_token", "pos_embed"))
            if named.keys() >= {token, positions}:
                named[token] = named[token] + named[positions][:, :1]
                named[positions] = named[positions][:, 1:]
    return named


def parts_beyond(found: Found) -> tuple[list[str], list[str]]:
    """What the dict has inside the network that was looked for, and that network has not: it is of another then.

    The network goes on after these. A head does not count, nor what an encoder leaves off at its end, nor buffers that
    are no weights, as of quantisation, nor a part with a name among blocks that have numbers, which do not call it.

    Returns:
        Blocks like others that match, as those of a ResNet-34 beyond a ResNet-18's; and parts of blocks, as those of
        squeeze and excitation, or tokens of a transformer.
    """
    used = dict.fromkeys(found.keys.values())  # in the encoder's order
    last = next(reversed(used), "")
    kinds = {re.sub(r"\d+", "0", head) for head in found.heads}
    named = {
        around for around, _, word in (name.rpartition(".") for name in (*found.heads, *used)) if not word.isdigit()
    }
    positions = any(key == found.prefix + "pos_embed" for key in used)
    blocks, others = set[str](), set[str]()
    for key, tensor in found.tensors.items():
        if key in used or not key.startswith(found.prefix) or not _is_weight(key, tensor):
            continue
        name = key[len(found.prefix) :]
        if positions and re.fullmatch(r"(?!mask)\w+_token", name):  # the positions know them, and the blocks see them
            others.add(name)
        part, around = found.outermost(key)
        if not around or last.startswith(f"{around}.") or (around not in named and not _word(part).isdigit()):
            continue
        inside = key.count(".") - part.count(".") > 1  # layers of it
        (blocks if inside and re.sub(r"\d+", "0", part) in kinds else others).add(part[len(found.prefix) :])
    return sorted(blocks), sorted(others - blocks)


def _word(part: str) -> str:
    return part.rpartition(".")[2]


def _is_weight(key: str, tensor: Tensor) -> bool:
    """Tell whether a tensor is what a network has learned for several channels, rather than a buffer or a number."""
    if not tensor.is_floating_point() or _word(key) in _DERIVED:
        return False
    return tensor.ndim > 1 or (tensor.numel() > 1 and _VECTOR.fullmatch(_word(key)) is not None)


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
