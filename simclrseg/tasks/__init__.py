"""Methods of pretraining, by the name users type. To add one: write its module, add its line."""

from simclrseg.registry import Registry

METHODS = Registry("method", {"simclr": "simclrseg.tasks.simclr:SimCLR"})
