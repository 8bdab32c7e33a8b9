"""Methods of pretraining, by the name users type: a folder each, and the folder is the list.

To add one: write a folder with ``knobs.py``, whose ``Knobs`` are a ``MethodKnobs``, and ``method.py``. A package of
your own does as well: its entry point of the group ``simclrseg.methods`` names its knobs.
"""

from simclrseg.registry import FolderRegistry

METHODS = FolderRegistry("method", __name__, __path__, "knobs:Knobs", group="simclrseg.methods")
