"""Two processes train as one does: same losses, gradients, statistics and scores; over gloo, and on GPUs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simclrseg.engine.batch_norm import SynchronizedBatchNorm, synchronized
from simclrseg.losses.nt_xent import chance_level
from tests.engine import two_processes as single
from tests.engine.small import relative
from tests.gpu import MARKS
from tests.processes import together

TWO = (pytest.mark.gpu, pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two NVIDIA GPUs"))


@pytest.fixture(
    scope="module",
    params=["cpu", pytest.param("shared", marks=MARKS, id="one GPU"), pytest.param("nccl", marks=TWO, id="two GPUs")],
)
def backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def both(folder: Path, backend: str) -> list[dict[str, Any]]:
    """What each of two processes computed."""
    together(partial(single.main, backend=backend), folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def assert_same(results: list[Any], expected: Any) -> None:
    for result in results:
        assert result["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        # uniformity looks at pairs within a process only
        exact = {name: value for name, value in expected["logs"].items() if name != "uniformity"}
        assert {name: result["logs"][name] for name in exact} == pytest.approx(exact, rel=1e-5)
        assert relative(result["gradient"], expected["gradient"]) < 1e-5
        for name, buffer in expected["buffers"].items():
            assert not result["buffers"][name].requires_grad
            torch.testing.assert_close(result["buffers"][name], buffer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("micro", ["", ", micro"], ids=["whole", "micro-batches"])
def test_two_processes_have_the_gradient_of_one_without_batch_norm(both: list[dict[str, Any]], micro: str) -> None:
    expected = single.contrast(single.group_norm)
    assert_same([results[f"group norm{micro}"] for results in both], expected)
    assert expected["logs"]["chance"] == chance_level(single.BATCH)


@pytest.mark.parametrize("micro", ["", ", micro"], ids=["whole", "micro-batches"])
def test_two_processes_have_the_gradient_of_one_with_batch_norm_in_eval(both: list[dict[str, Any]], micro: str) -> None:
    assert_same([results[f"eval{micro}"] for results in both], single.contrast(nn.BatchNorm2d, train=False))


def test_batch_norm_sees_the_batches_of_both_processes(both: list[dict[str, Any]]) -> None:
    assert_same([results["batch norm"] for results in both], single.contrast(nn.BatchNorm2d))


def test_batch_norm_sees_a_micro_batch_of_both_processes_and_counts_it_once(both: list[dict[str, Any]]) -> None:
    # 4 of each process's 8 at a time; one process takes the same 8 in its micro-batch
    order = torch.arange(single.BATCH).view(2, 2, 4).transpose(0, 1).flatten()
    expected = single.contrast(nn.BatchNorm2d, micro_batch=8, order=order)
    assert_same([results["batch norm, micro"] for results in both], expected)
    assert int(expected["buffers"]["1.num_batches_tracked"]) == 1 + 2


@pytest.mark.parametrize("size", [9, 1])
def test_uneven_and_empty_shares_add_up_to_the_mean_over_all(both: list[dict[str, Any]], size: int) -> None:
    assert_same([results["uneven"][size] for results in both], single.classify(nn.BatchNorm2d, size))


def test_uneven_shares_add_up_from_micro_batches_too(both: list[dict[str, Any]]) -> None:
    assert_same([results["uneven, micro"] for results in both], single.classify(single.group_norm, 9))


def test_batch_norm_never_gets_a_lone_sample_of_two_processes(both: list[dict[str, Any]]) -> None:
    assert_same([results["two and one"] for results in both], single.classify(nn.BatchNorm2d, 3))


@pytest.mark.parametrize("temperature", [0.005, 0.1, 1.0])
def test_nt_xent_over_processes_equals_that_of_one(both: list[dict[str, Any]], temperature: float) -> None:
    loss, gradient = single.loss_and_gradient(temperature)
    results = [results["nt_xent"][temperature] for results in both]
    assert all(result[0].item() == pytest.approx(loss.item(), rel=1e-6) for result in results)
    assert relative(torch.cat([result[1] for result in results], dim=1), gradient) < 1e-5


def test_gathered_rows_bring_back_the_gradient_of_all_losses(both: list[dict[str, Any]]) -> None:
    assert all(results["gather"][0].flatten().tolist() == [0, 0, 1, 1] for results in both)
    # loss of process p: (1 + p) · Σ_j j·row_j
    assert [results["gather"][1].flatten().tolist() for results in both] == [[0, 3], [6, 9]]


def test_tensors_that_fill_several_messages_are_all_summed(both: list[dict[str, Any]]) -> None:
    for results in both:
        for tensor, alone in zip(results["summed"], single.summed(), strict=True):
            assert torch.equal(tensor, (1 + 11) * alone)


def test_processes_hear_of_one_another(both: list[dict[str, Any]]) -> None:
    assert all(results["union"] == ["both", "only 0", "only 1"] for results in both)
    assert all(results["of the first"] == "made by 0" for results in both)


def test_one_failure_is_told_once_and_all_end_with_its_code(both: list[dict[str, Any]]) -> None:
    firsts, codes = zip(*(results["failure"] for results in both), strict=True)
    assert sorted(firsts) == [False, True]
    assert set(codes) == {3 + firsts.index(True)}
    assert max(results["farewell"] for results in both) < 5  # seen by both, not waited out


def test_segmentation_is_scored_on_the_photos_of_all_processes(both: list[dict[str, Any]]) -> None:
    expected = single.scores()
    assert 0 < expected["iou"] < 1
    assert all(results["scores"] == pytest.approx(expected, rel=1e-6) for results in both)


def test_training_in_two_processes_equals_training_in_one(both: list[dict[str, Any]], tmp_path: Path) -> None:
    expected = single.train(tmp_path)
    for results in both:
        for record, other in zip(results["fit"]["history"], expected["history"], strict=True):
            assert record == pytest.approx(other, rel=1e-4)
        assert list(results["fit"]["model"]) == list(expected["model"])
        for name, value in expected["model"].items():
            torch.testing.assert_close(results["fit"]["model"][name], value, rtol=1e-4, atol=1e-5)


def test_a_signal_to_one_process_stops_both_at_one_step_and_one_process_goes_on(
    both: list[dict[str, Any]], folder: Path, tmp_path: Path
) -> None:
    messages = {results["interrupted"] for results in both}
    assert messages == {f"stopped after step 5 of 12; the state is saved in {folder / 'stopped'} (143)"}
    resumed, straight = single.train(folder / "stopped"), single.train(tmp_path)
    for name, value in straight["model"].items():
        torch.testing.assert_close(resumed["model"][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_a_mode_that_changes_while_batch_norm_is_synchronized_stays(
    monkeypatch: pytest.MonkeyPatch, train: bool
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())).train(not train)
    layers = list(model.modules())
    with synchronized(model):
        assert isinstance(model[1][0], SynchronizedBatchNorm)
        model.train(train)
    assert list(model.modules()) == layers
    assert [layer.training for layer in layers] == [train] * len(layers)


def test_synchronized_batch_norm_shares_tensors_and_keeps_what_timm_does_after_it() -> None:
    layer = nn.BatchNorm2d(3)
    layer.act = nn.ReLU()  # as in timm's BatchNormAct2d
    twin = SynchronizedBatchNorm(layer)
    assert {name: id(value) for name, value in twin.state_dict(keep_vars=True).items()} == {
        name: id(value) for name, value in layer.state_dict(keep_vars=True).items()
    }
    x = 3 + torch.randn(8, 3, 4, 4)
    expected = nn.BatchNorm2d(3)(x).relu()
    torch.testing.assert_close(twin(x), expected)
    torch.testing.assert_close(twin.eval()(x), layer.eval()(x).relu())
