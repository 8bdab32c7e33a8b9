"""Ways to see features in the plane, by the name users type. To add one: write its function, add its line."""

from simclrseg.registry import Registry

EMBEDDINGS = Registry(
    "embedding",
    {"pca": "simclrseg.evaluation.embeddings:pca", "umap": "simclrseg.evaluation.neighbours:umap"},
)
