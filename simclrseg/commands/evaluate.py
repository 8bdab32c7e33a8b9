"""`simclrseg evaluate`: how good are fine-tuned models, on their own test images or on others?"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from simclrseg.charts import plots
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.data.seen import warn_if_seen
from simclrseg.errors import DataError, UsageError, suggestion
from simclrseg.evaluation import findings
from simclrseg.evaluation.backbones import find_backbones
from simclrseg.evaluation.graphs import ratio_charts
from simclrseg.evaluation.groups import grouped
from simclrseg.evaluation.label_next import LabelNext, label_next
from simclrseg.evaluation.probe import evaluate_backbones
from simclrseg.evaluation.probed import Probed, ProbedSeveral
from simclrseg.evaluation.report import write_report
from simclrseg.evaluation.results import Evaluated, Report, markdown
from simclrseg.evaluation.scored import Scored, find_baseline, find_scored, open_report, origin_of, own_folder, sized
from simclrseg.metrics.table import GATES
from simclrseg.scores.doubts import doubts
from simclrseg.scores.estimates import class_rows, differences, draws, over_split
from simclrseg.scores.results import Estimate, Scores
from simclrseg.system.files import write_json, write_rows, write_text
from simclrseg.targets.base import Scoring
from simclrseg.training.machine import Machine, prepare_machine

log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> Report | Probed | ProbedSeveral | LabelNext:
    """Score models, runs or exported files, and compare them where there are several; or probe backbones; or choose
    photos to label.

    Raises:
        SimclrsegError: for everything that a user can mend; nothing is written then.
    """
    machine = prepare_machine(config.hardware, "fp32")  # as the exported model computes
    root = Path(config.console.runs)
    if config.labels.label_next is not None:
        return label_next(config, machine)
    if backbones := find_backbones(config.data.models, root):
        return evaluate_backbones(backbones, config, machine)
    scored = find_scored(root, config, machine)
    baseline = find_baseline(scored, config.data.baseline, typed=config.data.models)
    gates = _gates(config.data.minimum, scored[0])
    asked = findings.plan(scored, config)
    for one in scored:
        split = one.target.split
        own = set() if config.data.dataset else {*split.train, *split.validation}
        warn_if_seen(one.dataset, [index for index in one.indices if index not in own], one.metadata)
        if trained_on := _trained_on(one, config):
            log.warning(
                f"{trained_on:,} of {len(one.indices):,} photos to be scored were trained on by {one.name}: "
                "expect lower scores on new photos"
            )
    name = scored[0].name if len(scored) == 1 else "comparison"
    largest = max(one.batch_size for one in scored)
    with open_report(config, name, scored=[str(one.path) for one in scored]) as folder, sized(largest):
        models = tuple(_evaluated(one, config, machine, root) for one in scored)
        differences = _differences(models, baseline)  # which refuses models of other images
        groups = grouped(models, baseline, root=root) if len(models) > 1 else []
        report = Report(folder, models, baseline, differences, _missed(models, gates), groups)
        for model, of_dropout in zip(models, asked.draws, strict=True):
            findings.add(model, asked, of_dropout, machine=machine, root=root, folder=_folder_of(model, report))
        _write(report)
    return report


def _trained_on(scored: Scored, config: EvaluateConfig) -> int:
    """How many of a model's own images that are scored have trained it; of another dataset ``warn_if_seen`` tells."""
    return 0 if config.data.dataset else len(set(scored.indices) & set(scored.target.split.train))


def _evaluated(scored: Scored, config: EvaluateConfig, machine: Machine, root: Path) -> Evaluated:
    """Score one model."""
    target, metadata = scored.target, scored.metadata
    scoring = Scoring(machine.workers, scored.batch_size, at=config.data.at, empty=float(config.data.empty))

    def score(indices: Sequence[int]) -> Scores:
        found: Scores = target.score(scored.predict, indices, metadata, scoring)
        return found

    scores = score(scored.indices)
    if not scores.confidences.number.any():
        ignored = f"every pixel of the {len(scores.keys):,} masks to be scored of {scored.dataset.name} is ignored"
        raise DataError(ignored, "mark what they show, or score others (--dataset, --split)")
    weights = draws(scores)
    metrics = over_split(scores, weights)
    values = {name: estimate.value for name, estimate in metrics.items()}
    found = doubts(values, scores.without_learning, len(scores.keys), unit=scores.UNIT)

    def of_validation() -> Scores:
        if config.data.split == "validation":
            return scores
        return score(target.split.validation)

    to_validate = target.split.validation and config.data.split in ("test", "validation")
    if to_validate and metadata.threshold is not None:
        found += target.split.doubts("a threshold", f"it stays {metadata.threshold:g}")
    for doubt in found:
        log.warning(f"{scored.name}: {doubt}")
    notes = scores.notes(weights, of_validation if to_validate and target.split.can_choose else None)
    if trained_on := _trained_on(scored, config):
        notes["photos_trained_on"] = trained_on
    return Evaluated(
        **vars(scored),
        scores=scores,
        metrics=metrics,
        means=scores.means(weights),
        per_class=class_rows(scores, weights, metadata.classes),
        origin=origin_of(scored, root),
        notes=notes,
        doubts=found,
    )


def _differences(models: Sequence[Evaluated], baseline: str | None) -> dict[str, dict[str, Estimate]]:
    """Differences of each other model from the baseline."""
    if baseline is None:
        return {}
    first = next(model for model in models if model.name == baseline)
    for model in models:
        if model.scores.indices != first.scores.indices:
            raise DataError(
                f"{first.name} and {model.name} could not read the same photos", "repair them, or leave them out"
            )
    weights = draws(first.scores)
    return {model.name: differences(first.scores, model.scores, weights) for model in models if model is not first}


def _write(report: Report) -> None:
    """Write the files of the report; with several models those of each in a folder of its own."""
    write_json(report.folder / "metrics.json", report.found())
    for model in report.models:
        folder = _folder_of(model, report)
        write_rows(folder / "per_image.csv", model.scores.rows())
        write_rows(folder / "per_class.csv", model.per_class)
        model.scores.write_confusion(folder)
    write_report(report)
    if len(report.models) == 1:
        return
    write_rows(report.folder / "comparison.csv", report.rows())
    recipes = f"{markdown(report.recipes)}\n" if report.groups else ""
    verdicts = "".join(f"- {line}\n" for line in report.verdicts)
    write_text(report.folder / "comparison.md", f"{recipes}{report.markdown()}\n{report.coverage}\n\n{verdicts}")
    if charts := ratio_charts(report):
        plots.charts(charts, report.folder / "data_ratio.png")


def _folder_of(model: Evaluated, report: Report) -> Path:
    """Where a model's files go; with several models in a folder of its own."""
    if len(report.models) == 1:
        return report.folder
    number = 1 + [other.name for other in report.models].index(model.name)
    return own_folder(report.folder, number, model.name, model.path)


def _gates(texts: Sequence[str], scored: Scored) -> dict[str, float]:
    """The least values by metric, of several for one the highest; UsageError if the models do not have a metric."""
    gates: dict[str, float] = {}
    for text in texts:
        name, _, bound = text.partition("=")
        known = [metric for metric in scored.target.metric_names(scored.metadata) if metric in GATES]
        if name not in known:
            raise UsageError(
                f"--min {text}: {scored.name} has no {name}", suggestion(name, known), option="min", value=text
            )
        gates[name] = max(float(bound), gates.get(name, 0.0))
    return gates


def _missed(models: Sequence[Evaluated], gates: Mapping[str, float]) -> list[str]:
    """The gates that were not met, as sentences."""
    return [
        f"{name} of {model.name} has no value"
        if math.isnan(model.metrics[name].value)
        else f"{name} of {model.name} is {model.metrics[name]}, less than {bound:g}"
        for name, bound in gates.items()
        for model in models
        if not model.metrics[name].value >= bound
    ]
