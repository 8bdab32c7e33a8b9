"""Methods of pretraining, by the name users type.

To add one: write its module, add its line here and one in recipes/_methods.py.
"""

from simclrseg.registry import Registry

METHODS = Registry(
    "method",
    {
        "simclr": "simclrseg.methods.simclr.task:SimCLR",
        "reconstruction": "simclrseg.methods.reconstruction.task:Reconstruction",
    },
)
