"""Data: photos and masks, their splits, and the batches made of them."""
