"""What evaluation offers, by the names users type. To add an embedding: write its function, add its line."""

from simclrseg.registry import Registry

EMBEDDINGS = Registry(
    "embedding",
    {"pca": "simclrseg.evaluation.embeddings:pca", "umap": "simclrseg.evaluation.neighbours:umap"},
)

METRICS = {
    "iou": "Intersection over union of the foreground: tp / (tp + fp + fn) pixels.",
    "miou": "Mean of the IoU over the classes that occur, where there are more than two.",
    "f1": "2 tp / (2 tp + fp + fn), of the foreground or the mean over classes.",
    "dice": "The same number as f1.",
    "precision": "tp / (tp + fp): how much of what was found is right.",
    "recall": "tp / (tp + fn): how much of what is there was found.",
    "accuracy": "Share of the pixels, or photos, that have their true class.",
    "boundary_iou": "IoU of the bands along both boundaries, 2 % of the diagonal wide (Cheng et al. 2021).",
    "bce": "Binary cross entropy: mean of -ln p of the true class over pixels; ce where there are more classes.",
    "focal_loss": "Mean of (1 - p)^2 (-ln p) over pixels (Lin et al. 2017); p of the true class, no class weights.",
    "dice_loss": "1 - 2 sum(p y) / (sum p + sum y), with probabilities p in the place of decisions.",
    "macro_f1": "Of photos: mean of the F1 over the classes that occur.",
    "top5": "Share of the photos whose class is among the five likeliest, where there are more than five.",
}
"""Metrics with their definitions."""

TERMS = {
    "over the split": "From the counts of all images together (micro average): large objects weigh more.",
    "mean over images": "Mean of what each image has alone: each weighs the same.",
    "95 % interval": "The middle of 1,000 bootstrap resamples of the images; of differences, paired.",
    **METRICS,
}
"""Words of the tables, with what they mean."""

GATES = tuple(name for name in METRICS if name not in ("bce", "focal_loss", "dice_loss"))
"""Those of which more is better."""
