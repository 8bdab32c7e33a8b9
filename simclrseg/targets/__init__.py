"""Targets of fine-tuning, by the name users type: a folder each, and the folder is the list.

To add one: write a folder with ``knobs.py``, whose ``Knobs`` are ``TargetKnobs``, and ``target.py``.
"""

from simclrseg.registry import FolderRegistry

TARGETS = FolderRegistry("task", __name__, __path__, "knobs:Knobs", group="simclrseg.targets")
