"""Losses of fine-tuning, by the name users type. To add one: write its function, add its entry."""

from simclrseg.losses.entries import Entry
from simclrseg.registry import Registry

ENTRIES = {
    "bce": Entry("simclrseg.losses.segmentation:bce", logits="one"),
    "ce": Entry("simclrseg.losses.segmentation:ce", logits="each"),
    "dice": Entry("simclrseg.losses.segmentation:dice", weighs=False),
    "focal": Entry("simclrseg.losses.segmentation:focal", parameter="gamma"),
    "jaccard": Entry("simclrseg.losses.segmentation:jaccard", weighs=False),
}
LOSSES = Registry("loss", {name: entry.compute for name, entry in ENTRIES.items()})
