"""Data: images and masks, their splits, and the batches made of them."""
