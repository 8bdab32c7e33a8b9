"""`simclrseg evaluate`: how good are fine-tuned models, on their own test images or on others?"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simclrseg import runs
from simclrseg.charts import plots
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.errors import DataError, UsageError, suggestion
from simclrseg.evaluation import compare, findings
from simclrseg.evaluation.graphs import ratio_charts
from simclrseg.evaluation.probe import evaluate_backbone, find_backbone
from simclrseg.evaluation.report import write_report
from simclrseg.evaluation.scored import Scored, facts_of, find_baseline, find_scored, open_report, sized
from simclrseg.metrics.table import GATES
from simclrseg.scores.estimates import class_rows, differences, draws, over_split
from simclrseg.scores.results import Estimate, Evaluated, Report, Scores, write_confusion
from simclrseg.system.files import write_json, write_rows, write_text
from simclrseg.targets.base import Scoring
from simclrseg.training.machine import Machine, prepare_machine
from simclrseg.weights.seen import warn_if_seen

log = logging.getLogger(__name__)

OWN = re.compile(r"(comparison|config|data_ratio|environment|log|metrics|report)\.\w+|worst", re.IGNORECASE)
"""The report's own files, beside which the folders of several models lie."""


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score models, runs or exported files, and compare them where there are several.

    Returns:
        Everything that was found: of one model its path, images, ``metrics``, ``intervals`` and more, of several the
        same in ``models``; the folder of the ``report``; what was ``missed`` of the values that ``--min`` asks for.

    Raises:
        SimclrsegError: for everything that a user can mend; nothing is written then.
    """
    machine = prepare_machine(config.hardware, "fp32")  # as the exported model computes
    root = Path(config.console.runs)
    if (backbone := find_backbone(config.data.models, root)) is not None:
        return evaluate_backbone(backbone, config, machine)
    scored = find_scored(root, config, machine)
    baseline = find_baseline(scored, config.data.baseline, typed=config.data.models)
    gates = _gates(config.data.minimum, scored[0])
    asked = findings.plan(scored, config)
    for one in scored:
        split = one.target.split
        own = set() if config.data.dataset else {*split.train, *split.validation}
        warn_if_seen(one.target.dataset, [index for index in one.indices if index not in own], one.metadata)
        if trained_on := _trained_on(one, config):
            log.warning(
                f"{trained_on:,} of {len(one.indices):,} photos to be scored were trained on by {one.name}: "
                "expect lower scores on new photos"
            )
    name = scored[0].name if len(scored) == 1 else "comparison"
    largest = max(one.batch_size for one in scored)
    with open_report(config, name, scored=[str(one.path) for one in scored]) as folder, sized(largest):
        models = tuple(_evaluated(one, config, machine, root) for one in scored)
        report = Report(folder, models, baseline, _differences(models, baseline))
        for model, one, draws_of_dropout in zip(models, scored, asked.draws, strict=True):
            findings.add(
                model,
                asked,
                draws_of_dropout,
                machine=machine,
                batch_size=one.batch_size,
                root=root,
                folder=_folder_of(model, report),
            )
        result = _facts(report)
        _write(report, result)
    return {**result, "report": str(report.folder), "missed": _missed(report, gates)}


def _trained_on(scored: Scored, config: EvaluateConfig) -> int:
    """How many of a model's own images that are scored have trained it; of another dataset ``warn_if_seen`` tells."""
    return 0 if config.data.dataset else len(set(scored.indices) & set(scored.target.split.train))


def _evaluated(scored: Scored, config: EvaluateConfig, machine: Machine, root: Path) -> Evaluated:
    """Score one model."""
    target, dataset = scored.target, scored.target.dataset
    metadata = scored.metadata.model_copy(update={"border": dataset.border})
    scoring = Scoring(machine.workers, scored.batch_size, at=config.data.at, empty=float(config.data.empty))

    def score(indices: Sequence[int]) -> Scores:
        found: Scores = target.score(scored.predict, indices, metadata, scoring)
        return found

    scores = score(scored.indices)
    weights = draws(scores)
    if weights is None:
        log.warning("one image says nothing about others: there are no intervals")

    def of_validation() -> Scores:
        if config.data.split == "validation":
            return scores
        return score(target.split.validation)

    to_validate = target.split.validation and config.data.split in ("test", "validation")
    notes = scores.notes(weights, of_validation if to_validate else None)
    if trained_on := _trained_on(scored, config):
        notes["photos_trained_on"] = trained_on
    return Evaluated(
        name=scored.name,
        kind=scored.kind,
        path=scored.path,
        task=target.TASK,
        metadata=metadata,
        learner=scored.learner,
        predict=scored.predict,
        dataset=dataset,
        split=config.data.split,
        indices=scores.indices,
        test_hash=scored.test_hash,
        scores=scores,
        metrics=over_split(scores, weights),
        means=scores.means(weights),
        per_class=class_rows(scores, weights, metadata.classes),
        per_image=scores.rows(),
        confusion=scores.confusion,
        facts=facts_of(scored, root),
        notes=notes,
    )


def _differences(models: Sequence[Evaluated], baseline: str | None) -> dict[str, dict[str, Estimate]]:
    """Differences of each other model from the baseline."""
    if baseline is None:
        return {}
    first = next(model for model in models if model.name == baseline)
    for model in models:
        if model.indices != first.indices:
            raise DataError(
                f"{first.name} and {model.name} could not read the same photos", "repair them, or leave them out"
            )
    weights = draws(first.scores)
    return {model.name: differences(first.scores, model.scores, weights) for model in models if model is not first}


def _facts(report: Report) -> dict[str, Any]:
    """The content of ``metrics.json`` and ``--json``."""
    found = [_facts_of(model) for model in report.models]
    if len(found) == 1:
        return found[0]
    table, best = compare.cells(report)
    return {
        "models": found,
        "baseline": report.baseline,
        "differences": {
            name: {metric: estimate.facts() for metric, estimate in metrics.items()}
            for name, metrics in report.differences.items()
        },
        "table": table,
        "best": sorted(best),
    }


def _facts_of(model: Evaluated) -> dict[str, Any]:
    return {
        model.kind: str(model.path),
        "name": model.name,
        "task": model.task,
        "dataset": model.dataset.name,
        "split": model.split,
        "n": len(model.indices),
        "test_hash": model.test_hash,
        **model.notes,
        "metrics": {name: estimate.value for name, estimate in model.metrics.items()},
        "intervals": {name: estimate.facts()["interval"] for name, estimate in model.metrics.items()},
        "mean_over_images": {name: estimate.facts() for name, estimate in model.means.items()},
        "per_class": model.per_class,
        "skipped": list(model.scores.skipped),
        **model.facts,
        **{name: finding.facts() for name, finding in model.findings.items()},
    }


def _write(report: Report, result: Mapping[str, Any]) -> None:
    """Write the files of the report; with several models those of each in a folder of its own."""
    write_json(report.folder / "metrics.json", result)
    for model in report.models:
        folder = _folder_of(model, report)
        write_rows(folder / "per_image.csv", model.per_image)
        write_rows(folder / "per_class.csv", model.per_class)
        write_confusion(folder, model.confusion, model.metadata.classes)
        model.scores.draw(folder)
    write_report(report)
    if len(report.models) == 1:
        return
    write_rows(report.folder / "comparison.csv", compare.rows(report))
    write_text(report.folder / "comparison.md", compare.markdown(result["table"], result["best"]))
    if charts := ratio_charts(report):
        plots.charts(charts, report.folder / "data_ratio.png")


def _folder_of(model: Evaluated, report: Report) -> Path:
    """Where a model's files go; with several models in a folder of its own."""
    if len(report.models) == 1:
        return report.folder
    number = 1 + [other.name for other in report.models].index(model.name)
    usable = runs.NAME.fullmatch(model.name) and not OWN.fullmatch(model.name)
    folder = report.folder / (model.name if usable else f"{number}-{model.path.stem}")
    folder.mkdir(exist_ok=True)
    return folder


def _gates(texts: Sequence[str], scored: Scored) -> dict[str, float]:
    """The least values by metric; of several for one metric the highest.

    Raises:
        UsageError: if the models do not have a metric.
    """
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


def _missed(report: Report, gates: Mapping[str, float]) -> list[str]:
    """The gates that were not met, as sentences."""
    return [
        f"{name} of {model.name} has no value"
        if math.isnan(model.metrics[name].value)
        else f"{name} of {model.name} is {model.metrics[name]}, less than {bound:g}"
        for name, bound in gates.items()
        for model in report.models
        if not model.metrics[name].value >= bound
    ]
