"""What other tools call the knobs and their values. To add a spelling: write it behind the knob's name.

A key of theirs is known by its last names, without case, hyphens and underscores: ``optimizer.name`` stands for any
section's. What a rule needs more than a name for is in others.py.
"""

from collections.abc import Mapping

KEYS: Mapping[str, tuple[str, ...]] = {
    "dataset": ("dataset.name", "dataset.type", "dataset_name", "data.name", "train_dataset"),
    "image_size": ("img_size", "input_size", "crop_size", "resize", "resolution", "imgsz", "size"),
    "max_images": ("subset_size", "max_samples", "num_samples", "n_samples"),
    "color_strength": ("color_distortion_strength", "color_jitter_strength", "jitter_strength"),
    "blur_probability": ("gaussian_blur_probability", "gaussian_blur_prob", "gaussian_blur_p", "blur_prob", "blur_p"),
    "grayscale_probability": ("grayscale_prob", "gray_scale_prob", "grayscale_p", "random_gray_scale"),
    "data_ratio": ("label_fraction", "label_ratio", "train_fraction", "subset_ratio", "labeled_ratio"),
    "split_seed": ("seed_split",),
    "decoder": ("decoder.name", "decoder_name"),
    "dropout": ("dropout_rate", "drop_rate"),
    "projection_hidden": ("hidden_dim", "proj_hidden_dim", "projection_hidden_dim", "hidden_mlp"),
    "projection_dim": (
        "proj_dim",
        "projection_size",
        "proj_output_dim",
        "out_dim",
        "output_dim",
        "embedding_dim",
        "feature_dim",
        "z_dim",
    ),
    "temperature": ("temp", "tau"),
    "loss": ("loss", "loss.name", "loss.type", "loss_name", "loss_function", "loss_fn", "criterion"),
    "label_smoothing": ("smoothing",),
    "optimizer": ("optimizer.name", "optimizer.type", "optimizer_name", "optim", "opt"),
    "learning_rate": ("lr", "base_lr", "init_lr", "initial_lr", "max_lr", "peak_lr"),
    "schedule": ("scheduler", "scheduler.name", "scheduler.type", "scheduler_name", "lr_scheduler", "lr_schedule"),
    "warmup_epochs": ("warmup", "warm_up_epochs", "num_warmup_epochs", "warmup.epochs"),
    "final_rate": ("min_multiplier", "final_lr_ratio", "min_lr_ratio"),
    "weight_decay": ("wd", "l2"),
    "clip": ("grad_clip", "gradient_clip_val", "clip_grad_norm", "max_grad_norm", "clip_norm"),
    "epochs": ("epoch", "num_epochs", "n_epochs", "max_epochs", "total_epochs"),
    "batch_size": ("bs", "batch", "train_batch_size"),
    "patience": ("early_stopping_patience", "early_stopping.patience"),
    "ema": ("ema_decay", "ema.decay"),
    "workers": ("num_workers", "n_workers", "data_loader_workers"),
    "seed": ("random_seed", "manual_seed"),
    "name": ("experiment.name", "experiment_name", "exp_name", "exp.name", "run_name", "run.name"),
}
"""Keys by the name of the knob."""

VALUES: Mapping[str, Mapping[str, str]] = {
    "dataset": {
        "dogs_vs_cats": "cats_vs_dogs",
        "cat_dog": "cats_vs_dogs",
        "oxford_pet": "oxford_pets",
        "oxford_iiit_pet": "oxford_pets",
        "oxford_iiit_pets": "oxford_pets",
        "pets": "oxford_pets",
        "pascal_voc": "voc",
        "pascal_voc_segmentation": "voc",
        "pascal_voc_unlabelled": "voc",
        "voc_segmentation": "voc",
        "voc2012": "voc",
        "eurosat_rgb": "eurosat",
        "bigearthnet_s2": "bigearthnet",
    },
    "backbone": {f"resunet{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)}
    | {"vit_b16": "vit_b_16", "vit_base_16": "vit_b_16"},
    "decoder": {"resunet": "unet", "nested_unet": "unetplusplus", "deeplabv3": "deeplabv3plus"},
    "task": {"segmentation": "segment", "semantic_segmentation": "segment", "classification": "classify"},
    "optimizer": {"momentum": "sgd"},
    "schedule": {
        "cosine_annealing": "cosine",
        "cosine_annealing_lr": "cosine",
        "warmup_cosine": "cosine",
        "one_cycle_lr": "one-cycle",
        "none": "constant",
    },
    "loss": {
        "bce_loss": "bce",
        "bce_with_logits": "bce",
        "bce_with_logits_loss": "bce",
        "binary_cross_entropy": "bce",
        "cross_entropy": "ce",
        "cross_entropy_loss": "ce",
        "dice_loss": "dice",
        "focal_loss": "focal",
        "jaccard_loss": "jaccard",
        "iou": "jaccard",
        "bce_dice": "bce+dice",
        "dice_bce": "bce+dice",
        "ce_dice": "ce+dice",
    },
}
"""Values by the name of the knob, beside its own."""

NETWORKS: tuple[str, ...] = ("model", "model.name", "model.type", "method", "method.name", "method_type", "task")
NETWORKS += ("arch", "architecture", "network", "base_model", "base_encoder", "encoder", "encoder_name", "encoder.name")
NETWORKS += ("backbone", "backbone_name", "backbone.name", "underlying_model", "resnet", "encoder_arch")
"""Keys that name a method, a task, an encoder or a decoder: which, their value says."""

STARTS: tuple[str, ...] = ("pretrained", "pretrain", "pretrained_path", "pretrained_weights", "pretrained_model")
STARTS += ("pretrained_checkpoint", "encoder_weights", "backbone_weights", "backbone_path", "checkpoint_path")
STARTS += ("ckpt_path", "init")
"""Keys of the weights to start from."""

TEST = ("test_split", "test_size", "test_ratio", "test_fraction")
VALIDATION = ("val_split", "validation_split", "val_size", "val_ratio", "validation_ratio", "val_fraction")
TRAIN = ("train_ratio", "train_split", "train_size")
"""Shares of all photos."""
FREEZING = ("freeze_backbone", "freeze_encoder", "freeze")
PRECISION = ("precision", "amp", "use_amp", "mixed_precision", "fp16", "fp16_precision")
PRECISIONS = {"16": "fp16", "16-mixed": "fp16", "bf16-mixed": "bf16", "32": "fp32", "32-true": "fp32"}
ACCUMULATION = ("accumulation_steps", "accumulate_grad_batches", "grad_accumulation", "gradient_accumulation_steps")
STEPS = ("augmentation_steps", "augmentations", "transforms")
FLIPS = ("horizontal_flip", "random_horizontal_flip", "flip")
COLOURS = ("color_jitter", "color", "brightness_contrast", "random_brightness_contrast")
CROPS = ("random_resized_crop", "random_crop", "resized_crop")
"""Keys of a list of augmentations, and its members."""
NOT_BY_NAME = ("masks", "classes", "log", "runs", "name", "init", "device", "loss")
"""Knobs whose name means other things in other sections."""

NOT_HERE: Mapping[str, str] = {
    **dict.fromkeys(
        ("save_dir", "log_dir", "output_dir", "output_path", "output_folder", "checkpoint_dir", "results_dir"),
        "runs lie in runs/, or where --runs says",
    ),
    **dict.fromkeys(
        ("save_frequency", "save_freq", "save_every", "checkpoint_every"),
        "the state is saved after each epoch (--checkpoint-steps)",
    ),
    **dict.fromkeys(
        ("eval_frequency", "eval_freq", "eval_every", "val_frequency", "check_val_every_n_epoch"),
        "every epoch is validated",
    ),
    "metrics": "all metrics are reported (simclrseg evaluate)",
    "normalize": "pixels are always normalised (--normalization)",
    **dict.fromkeys(
        ("num_classes", "n_classes", "classes", "num_output_classes"), "what is learned from says how many there are"
    ),
    **dict.fromkeys(("ignore_class", "ignore_index"), "255 is what masks ignore"),
    **dict.fromkeys(
        (
            "images_dir",
            "masks_dir",
            "image_dir",
            "mask_dir",
            "data_dir",
            "data_path",
            "data_root",
            "root",
            "data_folder",
        ),
        "photos are found by the dataset's name or folder (--dataset)",
    ),
    "gaussian_blur_kernel": "the kernel follows from its sigma",
    "gaussian_blur_sigma": "sigma is drawn from 0.1 to 2 pixels",
    **dict.fromkeys(TRAIN, "training has what test and validation leave"),
    **dict.fromkeys(("loss", *KEYS["loss"]), "the method or the task has a loss of its own"),
    **dict.fromkeys(("momentum", "betas", "eps", "nesterov"), "the optimizer has its usual ones"),
    **dict.fromkeys(("gpus", "gpu", "num_gpus", "n_gpus", "gpu_ids"), "--devices trains on several GPUs"),
    **dict.fromkeys(
        ACCUMULATION,
        "each batch is a step of its own; a larger --batch-size fits any memory (--micro-batch)",
    ),
}
"""Keys without a knob, and why none is needed."""
