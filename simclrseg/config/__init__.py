"""Every knob of every command: its name, type, range, default and meaning, written once.

The command line builds its options from these models, so nothing here imports torch. To add a knob, add a
field with a docstring: it appears in ``--help``, in completion, in YAML files and in validation.
"""

from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.config.export import ExportConfig
from simclrseg.config.finetune import FinetuneConfig, FinetuneTraining, LabelledData
from simclrseg.config.predict import PredictConfig
from simclrseg.config.pretrain import PretrainConfig, PretrainData, PretrainModel
from simclrseg.config.pull import PullConfig
from simclrseg.config.shared import Hardware, Training, TrainingRun
from simclrseg.config.values import Completes, Flag, Positional, Transient

__all__ = [
    "Completes",
    "EvaluateConfig",
    "ExportConfig",
    "FinetuneConfig",
    "FinetuneTraining",
    "Flag",
    "Hardware",
    "LabelledData",
    "Positional",
    "PredictConfig",
    "PretrainConfig",
    "PretrainData",
    "PretrainModel",
    "PullConfig",
    "Training",
    "TrainingRun",
    "Transient",
]
