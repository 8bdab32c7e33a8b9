"""`simclrseg finetune`: images with masks or labels in, a segmentation or classification model out."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from simclrseg.commands.prepare_finetune import prepare
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.smaller import suggested
from simclrseg.data.samples import spread
from simclrseg.data.seen import fingerprint
from simclrseg.data.split_file import SPLIT_FILE, split_json
from simclrseg.engine.history import Observer
from simclrseg.errors import GateError, SimclrsegError
from simclrseg.exporters.onnx import export_onnx
from simclrseg.images.framing import Framing
from simclrseg.inference.tiling import Predict
from simclrseg.metadata import ModelMetadata
from simclrseg.models.weights import save_weights
from simclrseg.runs.names import MODEL_FILE, ONNX_FILE, TEST_FILE
from simclrseg.runs.run import Run, runs_option
from simclrseg.scores.doubts import doubts
from simclrseg.scores.reading import readable_images
from simclrseg.system import distributed
from simclrseg.system.files import write_json, write_text
from simclrseg.system.hardware import explained_shortage
from simclrseg.targets.base import Scoring, Target
from simclrseg.targets.learner import predictor
from simclrseg.targets.unlabelled import ConfidenceWarning
from simclrseg.training.dry_run import DryRun, bytes_of
from simclrseg.training.folder import is_prolonged
from simclrseg.training.forecast import in_words
from simclrseg.training.session import Session
from simclrseg.training.train import Trainer
from simclrseg.weights.card import CARD, card_text
from simclrseg.weights.find import LOAD_REPORT, PRETRAINED_FILE, recorded_file

log = logging.getLogger(__name__)

CHECKED = 6  # test images that the exported model is checked on


@dataclass(frozen=True)
class FinetuneResult:
    """A finished run's folder and files, its scores, and the next command.

    Attributes:
        best_epoch: None where the validation images are too few to choose one by: the last one's weights are kept.
        validation: metrics of the epoch whose weights are kept.
        test: what ``test.json`` holds.
    """

    run: Path
    model: Path
    onnx: Path
    best_epoch: int | None
    validation: dict[str, float]
    test: dict[str, Any]
    next: str


def finetune(config: FinetuneConfig, *, observers: Sequence[Observer] = ()) -> FinetuneResult | DryRun | None:
    """Train a network on labelled images, score its best epoch on the test images once, export it.

    Returns:
        The outcome; None in all processes but the first.

    Raises:
        GateError: if everything worked but the exported model disagrees; the run is finished without it.
        SimclrsegError: for everything else that a user can mend; a run that never began leaves nothing behind.
    """
    session = Session.begin("finetune", config)
    prepared = prepare(session)
    session = replace(session, config=prepared.config, requested=prepared.requested)
    config, target, learner, metadata = prepared.config, prepared.target, prepared.learner, prepared.metadata
    dataset, split, resumed = target.dataset, target.split, session.resumed
    chooses = split.can_choose
    trainer = Trainer(
        session,
        prepared.task,
        prepared.batches,
        prepared.validation,
        learning_rate=config.training.peak_rate,
        suggestion=suggested(prepared.requested.of_length(config.training.total_epochs), session.machine.device.type),
        scales=prepared.scales,
        trained=resumed is not None and resumed.holds(MODEL_FILE) and not is_prolonged(resumed),
    )
    if config.run.dry_run:
        return trainer.rehearse(kept=2 * bytes_of(learner.model.state_dict()), best=chooses)  # with model.onnx
    others, callbacks, grown = list[str](), list[Observer](), 0.0
    rows = dict[str, object]()
    if prepared.unlabelled is not None:
        unlabelled, indices = prepared.unlabelled
        counts = Counter(unlabelled.origin(index)[0].name for index in indices)
        rows["photos without masks"] = " + ".join(f"{count:,} of {name}" for name, count in counts.items())
        others = [unlabelled.keys[index] for index in indices]
        _, grown = config.consistency.ramp_epochs(config.training.total_epochs)
        callbacks.append(ConfidenceWarning(from_epoch=grown))
    labelled = [*split.train, *split.validation, *split.test]
    with trainer.open(
        name=config.run_name(prepared.pretrained.label),
        images=[dataset.keys[index] for index in labelled] + others,
        truth=target.truth_hash,
        fingerprint=fingerprint([(dataset, labelled), *([prepared.unlabelled] if prepared.unlabelled else [])]),
        loss=prepared.loss,
        encoder=metadata.encoder,
        decoder=metadata.decoder,
        encoder_lr_factor=config.training.encoder_lr_factor,
        test_hash=metadata.test_hash,
        **{PRETRAINED_FILE: recorded_file(prepared.pretrained, resumed)},
    ) as run:
        if distributed.is_main():
            write_json(run.folder / SPLIT_FILE, split_json(dataset, split, metadata.test_hash))
            if prepared.loaded:
                write_json(run.folder / LOAD_REPORT, prepared.loaded)
        predict = predictor(learner, session.machine, batch_size=trainer.micro_batch)
        result = trainer.train(
            freezing=prepared.freezing,
            average=config.training.ema,
            keep="best" if chooses else "last",
            patience=config.training.patience if chooses else None,
            patient_from=grown,
            observers=[*observers, *callbacks, *target.callbacks(run.folder, predict, prepared.pairs, metadata)],
        )
        seen = len(prepared.batches.samples) + target.passes(split.validation)
        seconds = result.history[-1].seconds * distributed.world_size() / seen * target.passes(split.test)
        if not distributed.dismiss():
            return None
        metadata = metadata.model_copy(update={"epochs": len(result.history)})
        with trainer.finishing("scoring", chosen=chooses):
            log.info(f"scoring {len(split.test):,} test photos, about {in_words(max(1, seconds))}")
            scoring = Scoring(session.machine.workers, trainer.micro_batch)
            rows |= {"batch": f"{config.training.batch_size} photos", **trainer.card_rows()}
            test, problem = score_and_export(run, target, learner.model, predict, metadata, scoring, rows)
    if problem is not None:
        raise GateError(
            f"{problem}; the run is finished without {ONNX_FILE}", f"try `{run.command('export')}` later"
        ) from problem
    return FinetuneResult(
        run=run.folder,
        model=run.folder / MODEL_FILE,
        onnx=run.folder / ONNX_FILE,
        best_epoch=result.best_epoch if chooses else None,
        validation=result.best if chooses else result.history[-1].validation,
        test=test,
        next=target.next(metadata) + runs_option(run.root),
    )


def score_and_export(
    run: Run,
    target: Target[Any, Any],
    model: nn.Module,
    predict: Predict,
    metadata: ModelMetadata,
    scoring: Scoring,
    rows: Mapping[str, object],
) -> tuple[dict[str, Any], Exception | None]:
    """Save the trained network, score it on the test images, once, and write its other files.

    Args:
        predict: the network as a function of images.
        rows: of the model card.

    Returns:
        What ``test.json`` holds, and what went wrong with ``model.onnx``.
    """
    drop_exports(run)
    save_weights(run.folder / MODEL_FILE, model.state_dict(), metadata)  # before anything else can fail
    scores = target.score(predict, target.split.test, metadata, scoring)
    found = scores.results("test")
    free = scores.without_learning
    own = doubts(scores.headline, free, len(scores.keys), unit=scores.UNIT)
    for doubt in own:
        log.warning(doubt)
    facts = {"metrics": scores.headline, "without_learning": free, "doubts": (*metadata.doubts, *own)}
    metadata = metadata.model_copy(update=facts)
    save_weights(run.folder / MODEL_FILE, model.state_dict(), metadata)
    write_json(run.folder / TEST_FILE, found)
    write_text(run.folder / CARD, card_of_run(run, target, metadata, rows))
    target.draw_test(run.folder, predict, scores)
    return found, export_run(run, target, model, metadata)


def card_of_run(run: Run, target: Target[Any, Any], metadata: ModelMetadata, rows: Mapping[str, object]) -> str:
    """The model card of a fine-tuned run."""
    split, options = target.split, runs_option(run.root)
    folder, image = json.dumps(str(run.folder)), json.dumps(metadata.example)
    return card_text(
        run.name,
        MODEL_FILE,
        metadata,
        use=(
            f"    {target.next(metadata)} --model {run.word}{options}\n\n"
            "or from Python:\n\n"
            f"```python\nimport simclrseg\n\nprediction = simclrseg.load_model({folder}).predict({image})\n```"
        ),
        images=f"{len(split.train):,} of {metadata.dataset}, and {len(split.validation):,} to "
        + ("choose the best epoch" if split.can_choose else "validate on"),
        rows=rows,
        scored=f"Over {len(split.test):,} test photos; `test.json` has more.",
    )


def drop_exports(run: Run) -> None:
    """Remove the ``model.onnx`` of a run that was trained further, which is of the network before; name its others."""
    (run.folder / ONNX_FILE).unlink(missing_ok=True)
    others = sorted(file.name for file in run.folder.glob("model.*") if file.name != MODEL_FILE)
    if others:
        are, them = ("is", "it") if len(others) == 1 else ("are", "them")
        log.warning(f"{', '.join(others)} {are} of the network before: export {them} again, with --overwrite")


def export_run(run: Run, target: Target[Any, Any], model: nn.Module, metadata: ModelMetadata) -> Exception | None:
    """Write ``model.onnx`` and check it on test images; what went wrong is returned, for the run is worth finishing."""
    try:
        with explained_shortage("in the export", "free some memory"):
            images, masks = readable_images(target.dataset, spread(target.split.test, CHECKED), Framing.of(metadata))
            export_onnx(model, run.folder / ONNX_FILE, metadata, images=images, truths=masks)
    except SimclrsegError as error:
        return error
    except Exception as error:  # of PyTorch's exporter or ONNX Runtime
        reason = next(iter(str(error).splitlines()), "")[:160]
        failure = GateError(f"the export failed ({type(error).__name__}: {reason})")
        failure.__cause__ = error
        return failure
    return None
