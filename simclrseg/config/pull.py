"""The knobs of ``simclrseg pull``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from simclrseg.knobs.sections import Output, Section
from simclrseg.knobs.values import BackboneName, Common, Completes, Flag, PathText, Positional, Transient


class PullSource(Section):
    """Source"""

    name: Annotated[str | None, Positional("[NAME]"), Completes("published"), Transient()] = None
    """A published backbone, or hf:owner/repo[/file][@revision]; without it, all published ones are listed."""
    backbone: Annotated[BackboneName | None, Common()] = None
    """Encoder whose ImageNet weights are meant (imagenet), or that a foreign file holds (hf:)."""
    namespace: str | None = None
    """Owner of our backbones on the Hub; by default $SIMCLRSEG_HUB_NAMESPACE, else simclrseg."""
    token: Annotated[str | None, Transient()] = None
    """Access token for gated and private repositories; by default $HF_TOKEN, else that of `hf auth login`."""


class PullDownload(Section):
    """Download"""

    output: Annotated[PathText | None, Flag("-o"), Completes("folders"), Common(), Transient()] = None
    """Folder to copy the file to, besides the cache."""
    force: Annotated[bool, Common(), Transient()] = False
    """Fetch it anew, and replace a copy that exists."""
    offline: Annotated[bool, Common(), Transient()] = False
    """Take what is cached and make no request."""
    dry_run: Annotated[bool, Common(), Transient()] = False
    """Say what would be fetched and how large it is."""

    @model_validator(mode="after")
    def _offline_fetches_nothing(self) -> Self:
        if self.force and self.offline:
            raise ValueError("--force fetches and --offline forbids it: leave one out")
        return self


class PullConfig(Section):
    """pull"""

    source: PullSource = Field(default_factory=PullSource)
    download: PullDownload = Field(default_factory=PullDownload)
    console: Output = Field(default_factory=Output)
