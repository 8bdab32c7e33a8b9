"""Every knob of every command: its name, type, range, default and meaning, written once.

The command line builds its options from these models, so nothing here imports torch. To add a knob, add a
field with a docstring: it appears in ``--help``, in completion, in YAML files and in validation.
"""

from simclrseg.registry import Registry

CONFIGS = Registry(
    "command",
    {
        "pretrain": "simclrseg.config.pretrain:PretrainConfig",
        "finetune": "simclrseg.config.finetune:FinetuneConfig",
        "evaluate": "simclrseg.config.evaluate:EvaluateConfig",
        "predict": "simclrseg.config.predict:PredictConfig",
        "export": "simclrseg.config.export:ExportConfig",
        "pull": "simclrseg.config.pull:PullConfig",
    },
)
