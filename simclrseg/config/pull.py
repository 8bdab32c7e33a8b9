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
    """Encoder: of imagenet, dinov2 and dinov3, the one to fetch; of hf:, the one that the file holds."""
    namespace: str | None = None
    """Owner of the published backbones on the Hub; by default $SIMCLRSEG_HUB_NAMESPACE, else simclrseg."""
    token: Annotated[str | None, Transient()] = None
    """Access token for gated and private repositories; by default $HF_TOKEN, else that of `hf auth login`."""


class PullDownload(Section):
    """Download"""

    output: Annotated[PathText | None, Flag("-o"), Completes("folders"), Common(), Transient()] = None
    """Folder to copy the file to; it stays in the cache too."""
    force: Annotated[bool, Common(), Transient()] = False
    """Fetch it again, and replace a copy that exists."""
    offline: Annotated[bool, Common(), Transient()] = False
    """Use the cache only; make no request."""
    dry_run: Annotated[bool, Common(), Transient()] = False
    """Print what would be fetched and its size."""

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
