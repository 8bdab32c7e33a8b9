"""Rules that masks are read by, in the words of `--masks`, each with what stands behind its colon."""

RULES = {
    "threshold": "the least value of the foreground",
    "alpha": None,  # the alpha channel is the mask
    "foreground": None,  # everything but 0
    "inverted": None,  # background and foreground change places
    "stored": None,  # drawn on the pixels as the photo's file stores them
    "upright": None,  # drawn on the photo as its orientation shows it
    "folder": "the name of the folder in which the masks lie",
}
EXCLUSIVE = (("threshold", "foreground"), ("stored", "upright"))
"""Rules that contradict each other."""
NAMING = frozenset({"folder"})
"""Rules behind whose colon a name stands rather than a number."""
