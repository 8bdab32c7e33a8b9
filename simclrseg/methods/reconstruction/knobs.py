"""The knobs of reconstruction."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from simclrseg.methods.knobs import MethodKnobs


class Knobs(MethodKnobs):
    """Reconstruction"""

    METHOD = "simclrseg.methods.reconstruction.method:ReconstructionMethod"
    DEFAULTS = {
        "data": {"image_size": 256, "augmentation": "whole", "normalization": "dataset"},
        "model": {"backbone": "resnet34", "stem": "imagenet"},
        "training": {
            "optimizer": "adam",
            "learning_rate": 3e-3,
            "final_rate": 0.01,
            "weight_decay": 0.0,
            "epochs": 1000,
            "batch_size": 32,
        },
    }
    ABOUT = (
        "resnet34, 256 px, whole images in batches of 32, mean and std of the dataset, adam at 0.003 down to 1 % of it "
        "without weight decay, 1000 epochs"
    )
    STEMS = ("imagenet",)  # its decoder needs these strides

    cut_share: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Fraction of the pixels that is cut out, about."""
    cut_side: Annotated[int, Ge(2)] = 16
    """Longest side of a cut rectangle, in pixels; the shortest is 2."""
    held_out: Annotated[float, Ge(0), Le(0.5)] = 0.05
    """Fraction of the images, 500 at most, that is not trained on, to measure the error."""
    loss_pixels: Literal["all", "cut"] = "all"
    """Pixels that the loss is over: all, or those that were cut out."""
