"""The training loop and its parts, by the name users type. To add one: write its function or class, add its line."""

from simclrseg.registry import Registry

OPTIMIZERS = Registry(
    "optimizer",
    {
        "lars": "simclrseg.engine.optimizers:LARS",
        "adam": "simclrseg.engine.optimizers:adam",
        "adamw": "simclrseg.engine.optimizers:adamw",
        "sgd": "simclrseg.engine.optimizers:sgd",
    },
)
LOGGERS = Registry(
    "logger",
    {
        "tensorboard": "simclrseg.engine.loggers:TensorBoard",
        "wandb": "simclrseg.engine.loggers:WandB",
    },
)
SCHEDULES = Registry(
    "schedule",
    {
        "cosine": "simclrseg.engine.schedules:cosine",
        "one-cycle": "simclrseg.engine.schedules:one_cycle",
        "constant": "simclrseg.engine.schedules:constant",
    },
)
