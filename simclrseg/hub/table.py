"""Published backbones by the name users type, and addresses of the Hub. To publish one: add its line to PUBLISHED."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from simclrseg.errors import HubError, UnknownName, UsageError, suggestion
from simclrseg.hub.imagenet import IMAGENET
from simclrseg.runs.names import BACKBONE_FILE

NAMESPACE = "simclrseg"
NAMESPACE_VARIABLE = "SIMCLRSEG_HUB_NAMESPACE"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
HF = "hf:"
"""Prefix of an address of the Hub."""
_ADDRESS = re.compile(r"(?P<repo>[^/@]+/[^/@]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>.+))?")
# the Hub's own rules
_REPO = re.compile(r"(?=.{3,96}$)(?!.*(?:--|\.\.))[A-Za-z0-9_][\w.-]*(?<![.-])/[A-Za-z0-9_][\w.-]*(?<![.-])(?<!\.git)")
TIMM_PREFIX = "tu-"
"""Prefix of encoders of timm, which says what it publishes for them."""


@dataclass(frozen=True)
class Source:
    """One file of one repository of the Hub."""

    repo_id: str
    file: str | None = None  # its path there; None where whatever holds the weights is meant
    revision: str = "main"  # a branch, a tag or a commit hash; a commit's file never changes
    sha256: str | None = None  # where it is known beforehand
    title: str = ""  # in messages
    remedy: str = "check the address"  # in messages, where it cannot be had
    ours: bool = False  # if it is missing, nobody has uploaded it yet; else it is misspelt
    uploaded: bool = True  # False where it is known that nobody has, so that it need not be asked for

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        return f"{self.repo_id}{file}" + (f"@{self.revision}" if self.revision != "main" else "")


@dataclass(frozen=True)
class Published:
    """One backbone and where it is, or will be, published."""

    name: str
    repo: str  # without its namespace
    encoder: str
    method: str
    dataset: str
    epochs: int | None
    licence: str
    size: int | None = None  # of the file, about, in MB
    make: str = "simclrseg pretrain --config simclr_pets"  # the command that makes one
    namespace: str | None = None  # of the repository, where it is not ours
    file: str = BACKBONE_FILE
    revision: str = "main"  # a commit hash once it is known, so that a cached file needs no request
    sha256: str | None = None
    uploaded: bool = True  # False while nobody has: it must not be listed as if it could be fetched
    in_channels: int = 3
    mean: tuple[float, ...] = ()  # of the channels, for pixels in [0, 1], as std; where no file says them
    std: tuple[float, ...] = ()
    settings: str | None = None  # a JSON file beside it that says mean and std
    about: str = ""  # more on the method, for lists

    @property
    def how(self) -> str:
        """The method as lists have it."""
        return f"{self.method}, {self.about}" if self.about else self.method

    @property
    def terms(self) -> tuple[str, ...]:
        """The licence of the weights, which goes on with what is made of them; none where it is ours or not known."""
        if not self.converted or self.licence in ("various", "unknown"):
            return ()
        return (f"{self.licence} ({self.source().repo_id})",)

    def source(self, namespace: str | None = None) -> Source:
        """The file on the Hub.

        Args:
            namespace: whose copy of ours is meant; by default SIMCLRSEG_HUB_NAMESPACE's, else our own.
        """
        owner = self.namespace or namespace or own_namespace()
        if not is_repository(f"{owner}/{self.repo}"):
            raise UsageError(
                f"{owner!r} cannot be a namespace of the Hub",
                f"check --namespace or {NAMESPACE_VARIABLE}",
                option="namespace",
            )
        remedy = f"{'make one' if self.namespace is None else 'train one of your own'} with `{self.make}`"
        return Source(
            f"{owner}/{self.repo}",
            self.file,
            self.revision,
            self.sha256,
            title=self.name,
            remedy=remedy if self.method == "simclr" else "name a file of such weights with --pretrained",
            ours=self.namespace is None,
            uploaded=self.uploaded or owner != NAMESPACE,
        )

    @property
    def converted(self) -> bool:
        """Tell if the file has to be given our metadata, which our own have."""
        return self.namespace is not None


def is_repository(repo_id: str) -> bool:
    """Tell if it can be the name of a repository on the Hub, with its owner."""
    return _REPO.fullmatch(repo_id) is not None


def stays_inside(path: str) -> bool:
    """Tell if a file's name or a revision, which become paths below the cache, does not lead out of it."""
    return not {"", ".", ".."} & set(path.split("/")) and "\\" not in path


def own_namespace() -> str:
    return os.environ.get(NAMESPACE_VARIABLE) or NAMESPACE


def check_endpoint() -> None:
    """Refuse an HF_ENDPOINT that is no address: huggingface_hub, and what imports it, fail with one."""
    address = os.environ.get(ENDPOINT_VARIABLE, "")
    try:
        urlsplit(address).port  # noqa: B018
    except ValueError as error:
        reason = f"{ENDPOINT_VARIABLE} {address} is no address"
        raise HubError(reason, "set another, such as https://huggingface.co") from error


_on_imagenet = partial(
    Published, name="imagenet", file="model.safetensors", method="supervised", dataset="imagenet", epochs=None
)
_of_timm = partial(_on_imagenet, namespace="timm")

TIMM = {
    "vit_b_16": _of_timm(
        encoder="vit_b_16",
        repo="vit_base_patch16_224.augreg2_in21k_ft_in1k",
        licence="apache-2.0",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
}
"""ImageNet weights of encoders of ours that are timm's under another name; a test compares them with what timm says."""


def imagenet(encoder: str) -> Published:
    """The ImageNet weights of an encoder; a UsageError where nobody publishes them."""
    if encoder in TIMM:
        return TIMM[encoder]
    if encoder.startswith(TIMM_PREFIX):
        return _timm_default(encoder)
    if encoder not in IMAGENET:
        near = suggestion(encoder, IMAGENET) if len(encoder) > 3 else ""
        remedy = near if near.startswith("did") else "choose another, as resnet50"
        raise UsageError(
            f"nobody publishes imagenet weights for backbone {encoder!r} here", remedy, option="backbone", value=encoder
        )
    return _on_imagenet(
        encoder=encoder,
        namespace="smp-hub",
        repo=f"{encoder}.imagenet",
        revision=IMAGENET[encoder],
        settings="config.json",
        licence="various",
    )


def _timm_default(encoder: str) -> Published:
    """Tag of the weights that timm takes where none is named."""
    import timm  # seconds, but whoever asks for such an encoder needs it anyway

    model = encoder.removeprefix(TIMM_PREFIX)
    settings = timm.get_pretrained_cfg(model) if timm.is_model(model) else None
    owner, _, repo = (settings.hf_hub_id or "").partition("/") if settings else ("", "", "")
    for entry in (entry for entries in FOUNDATIONS.values() for entry in entries):
        if (entry.namespace, entry.repo) == (owner, repo):
            raise UsageError(
                f"the weights of backbone {encoder!r} are not imagenet's but those of {entry.name}",
                f"take {entry.name} in the place of imagenet",
                option="backbone",
                value=encoder,
            )
    if settings is None or owner != "timm":
        raise UsageError(
            f"timm publishes no weights for backbone {encoder!r}",
            "choose another, as tu-convnext_tiny",
            option="backbone",
            value=encoder,
        )
    return _of_timm(
        encoder=encoder, repo=repo, licence=settings.license or "unknown", mean=settings.mean, std=settings.std
    )


_foundation = partial(
    Published,
    namespace="timm",
    file="model.safetensors",
    about="self-supervised",
    epochs=None,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
_dinov2 = partial(_foundation, name="dinov2", method="dinov2", dataset="LVD-142M", licence="apache-2.0")
_dinov3 = partial(_foundation, name="dinov3", method="dinov3", dataset="LVD-1689M", licence="dinov3-license")

FOUNDATIONS: dict[str, tuple[Published, ...]] = {
    "dinov2": (
        _dinov2(encoder="tu-vit_small_patch14_reg4_dinov2", repo="vit_small_patch14_reg4_dinov2.lvd142m", size=88),
        _dinov2(encoder="tu-vit_base_patch14_reg4_dinov2", repo="vit_base_patch14_reg4_dinov2.lvd142m", size=346),
        _dinov2(encoder="tu-vit_large_patch14_reg4_dinov2", repo="vit_large_patch14_reg4_dinov2.lvd142m", size=1217),
    ),
    "dinov3": (
        _dinov3(encoder="tu-convnext_tiny", repo="convnext_tiny.dinov3_lvd1689m", size=111),
        _dinov3(encoder="tu-vit_small_patch16_dinov3", repo="vit_small_patch16_dinov3.lvd1689m", size=86),
        _dinov3(encoder="tu-convnext_small", repo="convnext_small.dinov3_lvd1689m", size=198),
        _dinov3(encoder="tu-vit_base_patch16_dinov3", repo="vit_base_patch16_dinov3.lvd1689m", size=343),
    ),
}
"""Models that learned from far more pictures than anyone's own, for encoders of several kinds and sizes: the first one
is meant that can be used where no encoder is named. A test compares them with what timm says."""

_of_ours = partial(Published, encoder="resnet50", method="simclr", epochs=20, licence="MIT", size=94, uploaded=False)

PUBLISHED: dict[str, Published] = {
    entry.name: entry
    for entry in (
        _of_ours(name="pets", repo="resnet50-simclr-pets", dataset="cats_vs_dogs"),
        _of_ours(
            name="cifar",
            repo="resnet50-simclr-cifar",
            dataset="cifar10",
            make="simclrseg pretrain --config simclr_cifar10",
        ),
        # Chen et al.'s own 1x weights, converted from TensorFlow; SimCLR v1 takes pixels in [0, 1] as they are.
        Published(
            name="simclr-imagenet",
            repo="simclrv1-imagenet1k-resnet50-1x",
            namespace="lightly-ai",
            file="resnet50-1x.pth",
            encoder="resnet50",
            method="simclr",
            dataset="imagenet",
            epochs=1000,
            licence="Apache-2.0",
            size=102,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        ),
        imagenet("resnet50"),
        *(entries[0] for entries in FOUNDATIONS.values()),
    )
}


def encoders_of(name: str) -> tuple[str, ...]:
    """Encoders that are published under a name, the usual one first; imagenet's are too many to list."""
    return tuple(entry.encoder for entry in FOUNDATIONS.get(name, (PUBLISHED[name],)))


def same_encoder(one: str, other: str) -> bool:
    """Tell if two names are of one network: to timm's names that of weights may be added, as ``.dinov3_lvd1689m``."""
    first, second = (name.partition(".")[0] if name.startswith(TIMM_PREFIX) else name for name in (one, other))
    return first == second


def find(name: str, *, encoder: str | None = None) -> Published:
    """The entry of that name.

    Args:
        encoder: whose weights are meant, where the name has those of several, as ``imagenet`` has.
    """
    if name not in PUBLISHED:
        raise UnknownName("published backbone", name, known=PUBLISHED)
    entries = FOUNDATIONS.get(name, (PUBLISHED[name],))
    for entry in entries:
        if encoder is None or same_encoder(encoder, entry.encoder):
            return entry
    assert encoder is not None
    if name == "imagenet":
        return imagenet(encoder)
    *others, last = (entry.encoder for entry in entries)
    raise UsageError(
        f"{name} is a {' or '.join(filter(None, [', '.join(others), last]))}, not a {encoder}",
        f"pass --backbone {others[0]}" if others else "leave --backbone out",
        option="backbone",
        value=encoder,
    )


def parse_address(text: str) -> Source:
    """``hf:owner/repo[/file][@revision]``."""
    match = _ADDRESS.fullmatch(text.removeprefix(HF))
    paths = [path for path in (match["file"], match["revision"]) if path] if match else []
    if not match or not is_repository(match["repo"]) or not all(map(stays_inside, paths)):
        raise UsageError(
            f"{text!r} is no address of the Hub",
            "write hf:owner/repo, hf:owner/repo/file or …@revision",
            value=text,
            option="pretrained",
        )
    return Source(match["repo"], match["file"], match["revision"] or "main", title=text)
