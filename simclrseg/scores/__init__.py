"""Embeddings, by the names users type. To add one: write its function, add its line."""

from simclrseg.metrics.table import METRICS
from simclrseg.registry import Registry

EMBEDDINGS = Registry(
    "embedding",
    {"pca": "simclrseg.scores.projections:pca", "umap": "simclrseg.scores.umap_projection:umap"},
)

TERMS = {
    "over the split": "From the counts of all images together (micro average): large objects weigh more.",
    "mean over images": "Mean of what each image has alone: each weighs the same.",
    "95 % interval": "The middle of 1,000 bootstrap resamples of the images, not of trainings; of differences, paired.",
    "without learning": "What costs nothing: the most that a metric reaches with the same class everywhere; of a "
    "backbone, what the same network has before it is trained.",
    **{name: metric.definition for name, metric in METRICS.items()},
    "ece": "Expected calibration error: mean of |accuracy - confidence| over 15 bins of confidence (Guo et al. 2017).",
    "brier": "Mean over photos or pixels of sum_k (p_k - y_k)^2, from 0 to 2.",
    "risk": "Share that is wrong of the surest predictions; aurc is its mean over all shares that are kept. "
    "Of pixels both are read from 2,500 bins of the confidence, 0.01 wide in its logit.",
    "msp": "1 - the largest probability. This and the next three are higher for what is out of distribution.",
    "entropy": "Of the probabilities, in nats.",
    "energy": "-ln sum exp(logits) (Liu et al. 2020); one logit x counts as the pair 0, x.",
    "mutual_information": "H(mean p) - mean H(p) over draws of dropout: what the network itself is unsure of.",
    "auroc": "How often a photo, or pixel, of the other set scores higher than one of the model's own; 0.5 is chance.",
    "aupr": "Average precision, with the other set's photos, or their pixels, as positives.",
    "fpr95": "Share of the model's own photos, or pixels, above the threshold that finds 95 % of the others.",
    "silhouette": "How much nearer features are to their own class than to the next, from -1 to 1, by cosine.",
    "knn_accuracy": "Of a backbone: 20 nearest training photos vote with exp(cosine / 0.07) (Wu et al. 2018).",
    "linear_accuracy": "Of a backbone: logistic regression on its features, its weight decay chosen on validation.",
    "alignment": "Mean squared distance of two views of a photo on the unit sphere; 0 is best (Wang & Isola 2020).",
    "uniformity": "Log of the mean of exp(-2 distance^2) over pairs of photos; lower is more even.",
    "effective_rank": "How many dimensions features use: exp of the entropy of the singular values.",
}
"""Words of the tables, with what they mean."""
