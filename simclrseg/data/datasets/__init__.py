"""Datasets, by the name users type. To add one: write its module, add its line."""

from simclrseg.registry import Registry

HUB = "hf:"
"""What the name of a set of the Hugging Face Hub begins with."""

DATASETS = Registry(
    "dataset",
    {
        "shapes": "simclrseg.data.datasets.shapes:shapes",
        "cats_vs_dogs": "simclrseg.data.datasets.cats_vs_dogs:cats_vs_dogs",
        "cifar10": "simclrseg.data.datasets.cifar10:cifar10",
        "eurosat": "simclrseg.data.datasets.eurosat:eurosat",
        "eurosat_ms": "simclrseg.data.datasets.eurosat:eurosat_ms",
        "bigearthnet": "simclrseg.data.datasets.bigearthnet:bigearthnet",
        "oxford_pets": "simclrseg.data.datasets.oxford_pets:oxford_pets",
        "voc": "simclrseg.data.datasets.voc:voc",
    },
)
