"""Targets of fine-tuning, by the name users type: a folder each. To add one, write its folder, and add its line."""

from simclrseg.registry import Registry

TARGETS = Registry(
    "task",
    {
        "segment": "simclrseg.targets.segmentation.target:SegmentationTarget",
        "classify": "simclrseg.targets.classification.target:ClassificationTarget",
    },
)
