"""Losses of fine-tuning, by the name users type. To add one: write its module, add its line."""

from simclrseg.registry import Registry

LOSSES = Registry(
    "loss",
    {
        "bce": "simclrseg.losses.segmentation:bce",
        "ce": "simclrseg.losses.segmentation:ce",
        "dice": "simclrseg.losses.segmentation:dice",
        "focal": "simclrseg.losses.segmentation:focal",
        "jaccard": "simclrseg.losses.segmentation:jaccard",
    },
)
