"""A training step of U-Nets with depthwise convolutions on the CPU in bf16: torch's gradients and ours, in float32 too.

Run it on a quiet machine whose CPU computes in bf16: ``python -m tests.benchmarks.depthwise``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext

import segmentation_models_pytorch as smp
import torch

from simclrseg.engine.depthwise import fast_depthwise
from simclrseg.engine.runtime import autocast
from tests.benchmarks._common import compare, machine

CPU = torch.device("cpu")
TORCH, OURS, FULL = "bf16, torch's gradients", "bf16, ours", "float32"


def step(encoder: str, precision: str, *, ours: bool, batch: int, side: int) -> Callable[[], None]:
    """Forward and backward of a batch of noise."""
    model = smp.Unet(encoder, encoder_weights=None, classes=1).to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, side, side).contiguous(memory_format=torch.channels_last)

    def run() -> None:
        model.zero_grad(set_to_none=True)
        with autocast(CPU, precision), fast_depthwise(CPU) if ours else nullcontext():
            logits = model(images)
        logits.float().square().mean().backward()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoders", nargs="*", default=["tu-tf_efficientnet_lite0", "efficientnet-b0", "resnet18"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=96, help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(machine())
    size = {"batch": arguments.batch, "side": arguments.side}
    for encoder in arguments.encoders:
        variants = {
            TORCH: step(encoder, "bf16", ours=False, **size),
            OURS: step(encoder, "bf16", ours=True, **size),
            FULL: step(encoder, "fp32", ours=False, **size),
        }
        title = f"U-Net on {encoder}, {arguments.batch} images of {arguments.side} px"
        compare(title, variants, rounds=arguments.rounds, threads=arguments.threads)


if __name__ == "__main__":
    main()
