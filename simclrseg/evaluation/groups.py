"""Models that differ by their seed alone, taken together: which recipe is the better one?"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.errors import SimclrsegError
from simclrseg.evaluation.results import Evaluated, by_value, sentence, signed, verdict
from simclrseg.knobs.parsing import config_of_run
from simclrseg.runs.run import Run
from simclrseg.scores.estimates import differences_over_seeds, draws, over_seeds, spread
from simclrseg.scores.results import Estimate
from simclrseg.scores.wording import words, written
from simclrseg.training.folder import PROLONGED
from simclrseg.training.knobs import TrainingConfig, recipe
from simclrseg.weights.find import began_with

log = logging.getLogger(__name__)

ConfigT = TypeVar("ConfigT", bound=TrainingConfig)

OWN = ("run.seed", "run.name")
"""Keys in which the models of a group may differ."""
SHARE = ("data.data_ratio", "data.max_images")
"""Keys that say how many of the images are learned from."""
Seeds = tuple[int | None, int | None]
"""Of a training, and of the pretraining that it began with; None where it is not known, or there is none."""


@dataclass(frozen=True)
class Group:
    """Trainings of one recipe.

    Attributes:
        seeds: of the models, in their order; None where one is not known.
        metrics: means over the trainings, with intervals over images and seeds.
        spread: standard deviations over the trainings.
        baseline, differences: another group, and what this has more than it; None of the one that others are compared
            with.
        but_share: the keys of its recipe but for the share of the images; of a file its name alone.
    """

    name: str
    models: Sequence[Evaluated]
    seeds: Sequence[int | None]
    metrics: Mapping[str, Estimate]
    spread: Mapping[str, float]
    baseline: str | None = None
    differences: Mapping[str, Estimate] | None = None
    but_share: Mapping[str, Any] = field(default_factory=dict)

    @property
    def deciding(self) -> str:
        """The metric that says which is the better."""
        return self.models[0].deciding

    @property
    def start(self) -> tuple[Any, ...]:
        """What it began with, and whether it had images without labels."""
        return tuple(self.models[0].origin.get(name) for name in ("pretrained", "encoder", "unlabelled"))

    @property
    def share(self) -> tuple[Any, ...]:
        """How many of the images it learned from."""
        data = self.models[0].metadata.data
        return data.get("data_ratio"), data.get("max_images")

    @property
    def sentence(self) -> str:
        """Whether it is better than its baseline, in words; empty where it has none."""
        if self.differences is None or self.baseline is None:
            return ""
        return sentence(self.name, self.baseline, words(self.deciding), self.differences[self.deciding])

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        differences = self.differences or {}
        return {
            "name": self.name,
            "models": [model.name for model in self.models],
            "metrics": {
                name: estimate.facts() | {"spread": self.spread[name]} for name, estimate in self.metrics.items()
            },
            "baseline": self.baseline,
            "differences": {name: estimate.facts() for name, estimate in differences.items()},
            "verdict": verdict(differences[self.deciding]) if differences else None,
        }

    def row(self, compared: Sequence[str]) -> dict[str, str]:
        """A row of the table of recipes."""
        origin, deciding = self.models[0].origin, words(self.deciding)
        difference = self.differences[self.deciding] if self.differences else None
        return {
            "recipe": self.name,
            "seeds": str(len(self.models)),
            "pretrained": written(origin.get("pretrained")),
            "data ratio": written(origin.get("data_ratio"), ".4g"),
            **{words(name): f"{written(self.metrics[name].value)} ± {written(self.spread[name])}" for name in compared},
            f"{deciding} over": self.baseline or "-",
            "difference": signed(difference) if difference else "-",
            "verdict": verdict(difference) if difference else "-",
        }


def grouped(models: Sequence[Evaluated], baseline: str | None, *, root: Path) -> list[Group]:
    """The models by recipe, the best first; none where no two models have one.

    A group is compared with the baseline's. Where it learned from another share of the images, and there is a group
    with the baseline's start and this share, it is compared with that.

    Args:
        baseline: name of a model.
        root: the folder of all runs.
    """
    recipes: dict[str, dict[Seeds, Evaluated]] = {}
    for model in sorted(models, key=lambda model: model.name != baseline):
        config = _config(FinetuneConfig, model.path) if model.kind == "run" else None
        values, own_seeds = (
            ({"name": model.name}, (None, None)) if config is None else _recipe(config, model.path, root)
        )
        key = json.dumps(values, sort_keys=True)
        first_of_them = recipes.setdefault(key, {}).setdefault(own_seeds, model)
        if first_of_them is not model:
            log.warning(f"{model.name} repeats {first_of_them.name} with its seed, and does not count as another")
    if all(len(members) == 1 for members in recipes.values()):
        return []
    weights = draws(models[0].scores)
    groups: list[Group] = []
    for key, members in recipes.items():
        but_share = {name: value for name, value in json.loads(key).items() if name not in SHARE}
        pairs = sorted(members.items(), key=lambda pair: [seed or 0 for seed in pair[0]])
        seeds, own = [seeds[0] for seeds, _ in pairs], [model for _, model in pairs]
        scores = [model.scores for model in own]
        names = [model.name for model in own]
        taken = [group.name for group in groups] + [model.name for model in models if model.name not in names]
        found = over_seeds(scores, weights), spread(scores)
        groups.append(Group(_name(names, taken), own, seeds, *found, but_share=but_share))
    first = next(group for group in groups if any(model.name == baseline for model in group.models))

    def compared(group: Group) -> Group:
        if group is first:
            return group
        alike = [other for other in groups if (other.start, other.share) == (first.start, group.share)]
        alike.sort(key=lambda other: other.but_share != first.but_share)  # the baseline's own recipe, where it is there
        against = alike[0] if alike and group.share != first.share and alike[0] is not group else first
        found = differences_over_seeds(
            [model.scores for model in against.models],
            [model.scores for model in group.models],
            weights,
            paired=against.seeds == group.seeds and None not in group.seeds,
        )
        return replace(group, baseline=against.name, differences=found)

    return sorted(map(compared, groups), key=by_value)


def _config(model: type[ConfigT], folder: Path) -> ConfigT | None:
    try:
        return config_of_run(model, folder)
    except SimclrsegError:  # it has none, or one of another version
        return None


def _recipe(config: FinetuneConfig, folder: Path, root: Path) -> tuple[dict[str, Any], Seeds]:
    """What a run's result depends on but for seeds: its own, and that of the pretraining that it began with."""
    values = _but_own(config, folder)
    start = began_with(Run(folder), config.model.pretrained, root=root)
    before = None if start is None else _config(PretrainConfig, start.parent)
    if start is not None and before is not None:
        values["model.pretrained"] = _but_own(before, start.parent)
    return values, (config.run.seed, None if before is None else before.run.seed)


def _but_own(config: TrainingConfig, folder: Path) -> dict[str, Any]:
    """What a training's result depends on but for its seed; epochs that came later had a schedule of their own."""
    values = {key: value for key, value in recipe(config).items() if key not in OWN}
    return values | {PROLONGED: Run(folder).environment.get(PROLONGED)}


def _name(models: Sequence[str], taken: Sequence[str]) -> str:
    """What the models' names have in common, without the seed."""
    if len(models) == 1:
        return models[0]
    for seed in (r"-seed-\d+(?=-|$)", r"-s?\d+$"):  # the number at the end may be another value
        bare = {re.sub(seed, "", name) for name in models}
        if len(bare) == 1:
            name = bare.pop()
            return name if name not in taken else models[0]
    return models[0]
