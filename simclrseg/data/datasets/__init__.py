"""Datasets, by the name users type. To add one: write its module, add its entry."""

from simclrseg.data.datasets.entries import Companion, Entry
from simclrseg.registry import Registry

HUB = "hf:"
"""Prefix of the name of a set of the Hugging Face Hub."""

LABEL_SUFFIXES = (".json", ".yaml", ".yml")
"""Suffixes of files of labels, which stand for a set: COCO's and YOLO's."""

ENTRIES = {
    "shapes": Entry("simclrseg.data.datasets.shapes:shapes", Companion("shapes")),
    "cats_vs_dogs": Entry("simclrseg.data.datasets.cats_vs_dogs:cats_vs_dogs", Companion("oxford_pets")),
    "cifar10": Entry("simclrseg.data.datasets.cifar10:cifar10", Companion("cifar10", task="classify")),
    "eurosat": Entry("simclrseg.data.datasets.eurosat:eurosat", Companion("eurosat", task="classify")),
    "eurosat_ms": Entry("simclrseg.data.datasets.eurosat:eurosat_ms", Companion("eurosat_ms", task="classify")),
    # the one of EuroSAT's two that has all of its bands
    "bigearthnet": Entry("simclrseg.data.datasets.bigearthnet:bigearthnet", Companion("eurosat_ms", task="classify")),
    "oxford_pets": Entry("simclrseg.data.datasets.oxford_pets:oxford_pets", Companion("oxford_pets")),
    "voc": Entry("simclrseg.data.datasets.voc:voc", Companion("voc")),
}
DATASETS = Registry("dataset", {name: entry.open for name, entry in ENTRIES.items()})
