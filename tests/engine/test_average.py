"""The average of the weights, and stopping early: what the loop does beside the steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from simclrseg.engine.average import WeightAverage
from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.errors import Interrupted
from tests.engine.small import Classification, Images, Scored, assert_same_run, network, same, train, without_times
from tests.observers import Watcher, stop_at


def test_the_average_is_that_of_its_definition_buffers_included() -> None:
    model = network()
    average = WeightAverage(model, 0.5)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in (1, 2, 30):
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in average.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert "1.running_mean" in average.state_dict() and "1.num_batches_tracked" not in average.state_dict()


def test_the_model_has_its_own_weights_again_after_an_error() -> None:
    model = network()
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        model[0].weight.add_(1)
    own = model[0].weight.detach().clone()
    seen = []

    def fail() -> None:
        with average.applied():
            seen.append(model[0].weight.detach().clone())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not torch.equal(seen[0], own)
    assert torch.equal(model[0].weight, own)


@pytest.mark.parametrize("step", [3, 4, 6, 8])  # inside an epoch, and before a validation
def test_with_an_average_interrupted_and_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path, step: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    options = {"validation": Images(2), "average": 0.9}
    one, other = Classification(network(dropout=0.3)), Classification(network(dropout=0.3))
    whole, left = train(tmp_path / "whole", task=one, **options)
    watcher = stop_at(step=step)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", task=Classification(network(dropout=0.3)), observers=(watcher,), **options)
    parts, right = train(tmp_path / "parts", task=other, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert left.average and same(left.average, right.average)
    assert without_times(whole.history) == without_times(parts.history)
    assert same(one.model.state_dict(), other.model.state_dict())


def test_validation_and_the_best_checkpoint_take_the_average_and_steps_the_weights(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    task = Scored([0.1, 0.9, 0.2])
    plain = Scored([0.1, 0.9, 0.2])
    _, state = train(tmp_path / "a", task=task, validation=Images(2), average=0.9)
    _, plainly = train(tmp_path / "b", task=plain, validation=Images(2))
    assert same(state.model, plainly.model)  # the average changes no step
    assert torch.equal(task.seen[2], state.average["0.weight"])
    assert not torch.equal(task.seen[2], state.model["0.weight"])
    assert torch.equal(task.model[0].weight, task.seen[1])  # the best epoch's
    best = Checkpoints(tmp_path / "a/checkpoints").load_best(task.model.state_dict(), epoch=2)
    assert torch.equal(best["0.weight"], task.seen[1])


def test_whoever_watches_an_epoch_sees_the_average(tmp_path: Path) -> None:
    task, seen = Classification(network()), []
    watcher = Watcher(epoch=3, act=lambda: seen.append(task.model[0].weight.detach().clone()))
    _, state = train(tmp_path, task=task, average=0.9, observers=(watcher,))
    assert torch.equal(seen[0], state.average["0.weight"])
    assert not torch.equal(seen[0], state.model["0.weight"])


def test_where_the_last_weights_are_kept_the_model_ends_with_their_average(tmp_path: Path) -> None:
    task = Classification(network())
    _, state = train(tmp_path, task=task, keep="last", average=0.9)
    assert torch.equal(task.model[0].weight, state.average["0.weight"])


def test_training_stops_after_so_many_epochs_without_a_better_score(tmp_path: Path) -> None:
    task = Scored([0.2, 0.7, 0.7, 0.6, 0.9, 1.0])
    result, _ = train(tmp_path, task=task, validation=Images(2), epochs=6, patience=2)
    assert (len(result.history), result.best_epoch) == (4, 2)
    assert torch.equal(task.model[0].weight, task.seen[1])


def test_a_run_that_stopped_early_stays_so_when_it_is_resumed(tmp_path: Path) -> None:
    train(tmp_path, task=Scored([0.7, 0.2]), validation=Images(2), epochs=6, patience=1)
    watcher = Watcher()
    again, _ = train(tmp_path, task=Scored([]), validation=Images(2), epochs=6, patience=1, observers=(watcher,))
    assert watcher.steps == [] and len(again.history) == 2


def test_patience_survives_a_resume(tmp_path: Path) -> None:
    stopper = stop_at(step=9)
    options = {"validation": Images(2), "epochs": 6, "patience": 2}
    with pytest.raises(Interrupted):
        train(tmp_path, task=Scored([0.7, 0.2, 0.3]), observers=(stopper,), **options)
    result, _ = train(tmp_path, task=Scored([0.3, 0.9]), **options)
    assert len(result.history) == 3
