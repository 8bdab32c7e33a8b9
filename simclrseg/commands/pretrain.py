"""`simclrseg pretrain`: unlabelled images in, a backbone out."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simclrseg.charts import plots
from simclrseg.commands.prepare_pretrain import prepare
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.config.smaller import suggested
from simclrseg.data.loader import some_rows
from simclrseg.data.seen import fingerprint, image_hashes, joined, record
from simclrseg.engine.history import Observer
from simclrseg.images.bands import colour_bands
from simclrseg.images.colours import viewable
from simclrseg.runs.names import BACKBONE_FILE
from simclrseg.runs.run import record_facts, runs_option
from simclrseg.scores.doubts import pretraining_doubts
from simclrseg.system import distributed
from simclrseg.system.files import write_text
from simclrseg.training.dry_run import DryRun, bytes_of
from simclrseg.training.session import Session
from simclrseg.training.train import Trainer
from simclrseg.weights.backbone import BEFORE, SEEN_FILE, save_backbone
from simclrseg.weights.card import CARD, card_text
from simclrseg.weights.companion import following

log = logging.getLogger(__name__)

EXAMPLES = 8


@dataclass(frozen=True)
class PretrainResult:
    """A finished run's folder and backbone, the figures of its last epoch, and the next command.

    Attributes:
        without_learning: some of the metrics, before the first step.
    """

    run: Path
    backbone: Path
    metrics: dict[str, float]
    without_learning: dict[str, float]
    next: str


def pretrain(config: PretrainConfig, *, observers: Sequence[Observer] = ()) -> PretrainResult | DryRun | None:
    """Train a backbone without labels.

    Returns:
        The outcome; None in all processes but the first.

    Raises:
        SimclrsegError: for everything that a user can mend; a run that never began leaves nothing behind.
    """
    session = Session.begin("pretrain", config)
    prepared = prepare(session)
    requested, config = session.config, prepared.config
    session = replace(session, config=config, requested=requested)
    method, task, facts = prepared.method, prepared.task, prepared.facts
    dataset, learned = prepared.views.dataset, prepared.learned
    trainer = Trainer(
        session,
        task,
        prepared.batches,
        prepared.validation,
        learning_rate=config.training.scaled_rate,
        suggestion=suggested(requested, session.machine.device.type),
    )
    if config.run.dry_run:
        state, prefix = task.model.state_dict(), facts["encoder_prefix"]
        encoder = {key: value for key, value in state.items() if key.startswith(prefix)}
        return trainer.rehearse(kept=bytes_of(encoder) + (0 if facts["decoder"] is None else bytes_of(state)))
    images = [dataset.keys[index] for index in learned]
    content = fingerprint([(dataset, learned)])
    with trainer.open(name=config.run_name, images=images, fingerprint=content, **facts) as run:
        if distributed.is_main():
            if not run.holds(SEEN_FILE):  # a resumed run has what its first weights had seen too
                own = record(image_hashes(dataset, learned))
                write_text(run.folder / SEEN_FILE, joined(prepared.seen, own))
            rows = some_rows(prepared.batches.samples, EXAMPLES)
            pictures = viewable(method.first_views(rows), colour_bands(dataset.bands))
            method.mark(pictures, rows)
            plots.write_grid(list(pictures.swapaxes(0, 1)), run.folder / "augmentations.png")  # a photo a column
        micro_batch = trainer.micro_batch
        if session.resumed is None and prepared.validation is not None:
            before = trainer.score()  # by all processes
            log.info(f"before the first step: {', '.join(f'{name} {score:.4g}' for name, score in before.items())}")
            if distributed.is_main():
                record_facts(run, **{BEFORE: before})
        callbacks = method.callbacks(prepared.backbone, micro_batch=micro_batch, warmup=config.training.warmup)
        result = trainer.train(
            validate_every=config.run.knn_every,
            keep="last",  # a rank among checkpoints by k-NN would be a choice by labels, and by PSNR one for painting
            observers=[*observers, *callbacks],
        )
        if not distributed.dismiss():
            return None
        metrics = result.history[-1].validation | result.last  # the loss of training, beside that of painting the mean
        before = run.environment.get(BEFORE, {})
        with trainer.finishing("drawing", before=before):
            doubts = pretraining_doubts(metrics, before)
            for doubt in doubts:
                log.warning(doubt)
            metadata = save_backbone(
                run.folder,
                task.model.state_dict(),
                facts | {BEFORE: before},
                epochs=config.training.epochs,
                metrics=metrics,
                doubts=doubts,
            )
            method.draw_results(task, prepared.views, prepared.held_out or learned, run.folder, batch_size=micro_batch)
            card = card_text(
                run.name,
                BACKBONE_FILE,
                metadata,
                use=following(
                    shlex.quote(str(run.folder / BACKBONE_FILE)), metadata.dataset, decoder=method.DECODER is not None
                ).markdown(),
                method=method.knobs.title(),
                images=f"{len(learned):,} of {metadata.dataset}",
                rows=method.card_rows(config.training.batch_size) | trainer.card_rows(),
                scored="Of the last epoch:",
            )
            write_text(run.folder / CARD, card)
    then = following(run.as_start, metadata.dataset, options=runs_option(run.root), decoder=method.DECODER is not None)
    return PretrainResult(run.folder, run.folder / BACKBONE_FILE, metrics, before, str(then))
