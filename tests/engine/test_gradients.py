"""Micro-batches: their gradient is the whole batch's, on every device."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from simclrseg.engine.gradients import Passes, accumulate_gradient, buffers_kept, number_of_parts, split
from simclrseg.engine.task import Batch, Logs, SeparableTask, Task
from tests.engine.small import CPU, Classification, Contrast, Images, group_norm, network, relative
from tests.gpu import EACH_DEVICE


def gradient(
    task: Task,
    batch: Batch,
    micro_batch: int | None,
    *,
    together: int = 1,
    scale: float | None = None,
    precision: str = "fp32",
) -> tuple[Tensor, Tensor, Logs]:
    device = batch["image"].device
    task.model.to(device).zero_grad()
    scaler = torch.amp.GradScaler(device.type, init_scale=scale or 1.0, enabled=scale is not None)
    options = {"micro_batch": micro_batch, "together": together}
    loss, logs = accumulate_gradient(task, batch, step=7, **options, passes=Passes(device, precision, 3), scaler=scaler)
    return torch.cat([p.grad.flatten() for p in task.model.parameters()]), loss, logs


def one_batch(size: int, *, views: int = 1, device: torch.device = CPU) -> Batch:
    return {name: tensor.to(device) for name, tensor in next(Images(1, size, views=views).epoch(0)).items()}


@EACH_DEVICE
@pytest.mark.parametrize("micro_batch", [None, 4])
@pytest.mark.parametrize("views", [1, 2])
def test_the_gradient_is_that_of_a_cpu(device: torch.device, micro_batch: int | None, views: int) -> None:
    def computed(device: torch.device, precision: str = "fp32") -> Tensor:
        task = Contrast(network(out=8)) if views == 2 else Classification(network())
        return gradient(task, one_batch(8, views=views, device=device), micro_batch, precision=precision)[0].cpu()

    expected = computed(CPU)
    assert relative(computed(device), expected) < 1e-4
    assert 0 < relative(computed(device, "bf16"), expected) < 0.1
    assert 0 < relative(computed(device, "fp16"), expected) < 0.02


@EACH_DEVICE
@pytest.mark.parametrize("micro_batch", [1, 3, 4, 10, 99])  # 10 = 3·3 + 1 = 2·4 + 2
def test_accumulation_gives_the_gradient_of_the_mean_over_the_whole_batch(
    micro_batch: int, device: torch.device
) -> None:
    task, batch = Classification(network(group_norm)), one_batch(10, device=device)
    whole, loss, logs = gradient(task, batch, None)
    parts, part_loss, part_logs = gradient(task, batch, micro_batch)
    assert relative(parts, whole) < 1e-5
    assert part_loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert float(part_logs["accuracy"]) == pytest.approx(float(logs["accuracy"]))


@pytest.mark.parametrize("together", [1, 2])
def test_no_micro_batch_has_fewer_samples_than_batch_norm_needs(together: int) -> None:
    for processes, size, micro_batch in itertools.product((1, 2, 3), range(2, 14), (1, 2, 3, 5)):
        if micro_batch * processes < together:
            continue  # is refused
        shares = [size * (rank + 1) // processes - size * rank // processes for rank in range(processes)]
        parts = number_of_parts(shares, micro_batch, together)
        lengths = [[len(part["x"]) for part in split({"x": torch.zeros(share)}, parts)] for share in shares]
        assert [sum(own) for own in lengths] == shares
        assert min(map(sum, zip(*lengths, strict=True))) >= together
        assert max(map(max, lengths)) <= micro_batch + (together - 1)
        assert together == 2 or parts == -(-max(shares) // micro_batch)


def test_a_lone_last_sample_joins_the_others_and_the_gradient_is_that_of_all() -> None:
    seen: list[int] = []
    task, batch = Classification(network(group_norm)), one_batch(7)
    whole, *_ = gradient(task, batch, None)
    task.model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    parts, *_ = gradient(task, batch, 2, together=2)
    assert seen == [3, 2, 2]
    assert relative(parts, whole) < 1e-5


@EACH_DEVICE
@pytest.mark.parametrize("micro_batch", [1, 3, 4])
@pytest.mark.parametrize("norm", [group_norm, nn.BatchNorm2d], ids=["group norm", "batch norm in eval"])
def test_caching_gives_the_gradient_of_the_whole_contrastive_batch(
    norm: Callable[[int], nn.Module], micro_batch: int, device: torch.device
) -> None:
    task, batch = Contrast(network(norm, out=8)), one_batch(10, views=2, device=device)
    if norm is nn.BatchNorm2d:
        task.model(torch.randn(16, 3, 8, 8))  # statistics of its own
        task.model.eval()
    whole, loss, logs = gradient(task, batch, None)
    parts, part_loss, part_logs = gradient(task, batch, micro_batch)
    assert relative(parts, whole) < 1e-5
    assert part_loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert part_logs == logs == {"rows": 10.0}


def test_plain_accumulation_would_be_another_objective() -> None:
    class Uncached(SeparableTask):  # the same loss as if it were a mean over samples
        def __init__(self, task: Contrast) -> None:
            self.model, self.task = task.model, task

        def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
            return self.task.batch_loss(self.task.embed(batch), 7)

    task, batch = Contrast(network(group_norm, out=8)), one_batch(10, views=2)
    whole, *_ = gradient(task, batch, None)
    plain, *_ = gradient(Uncached(task), batch, 5)
    assert relative(plain, whole) > 0.1


def test_a_coupled_task_with_a_training_loss_of_its_own_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"Twice is a CoupledTask, whose loss is batch_loss\(embed\(batch\), step\)"):

        class Twice(Contrast):
            def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
                return self.batch_loss(self.embed(batch), 0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_random_numbers_of_a_loss_are_the_same_in_micro_batches(precision: str) -> None:
    class Sketched(Contrast):  # compared along random directions, drawn anew in each step
        def batch_loss(self, embeddings: Tensor, step: int) -> tuple[Tensor, Logs]:
            return super().batch_loss(embeddings @ torch.randn(8, 5), step)

    task, batch = Sketched(network(group_norm, out=8)), one_batch(6, views=2)
    whole, loss, _ = gradient(task, batch, None, precision=precision)
    parts, part_loss, _ = gradient(task, batch, 2, precision=precision)
    assert part_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert relative(parts, whole) < (1e-5 if precision == "fp32" else 0.02)


def graph_of_micro_batches(task: Contrast, batch: Batch, size: int) -> Tensor:
    """The gradient with the activations of all micro-batches in memory, and the same random numbers."""
    task.model.zero_grad()
    embeddings = []
    for number in range(len(batch["image"]) // size):
        with Passes(batch["image"].device, "fp32", 3).forward(7, number):
            embeddings.append(task.embed({"image": batch["image"][number * size : (number + 1) * size]}))
    task.batch_loss(torch.cat(embeddings), 7)[0].backward()
    return torch.cat([p.grad.flatten() for p in task.model.parameters()])


@EACH_DEVICE
def test_caching_equals_ghost_batch_norm_and_updates_its_statistics_once(device: torch.device) -> None:
    cached, reference = Contrast(network(dropout=0.4, out=8)), Contrast(network(dropout=0.4, out=8))
    batch = one_batch(12, views=2, device=device)
    reference.model.to(device)
    expected = graph_of_micro_batches(reference, batch, 4)
    got, *_ = gradient(cached, batch, 4)
    assert relative(got, expected) < 1e-5
    for (name, buffer), other in zip(cached.model.named_buffers(), reference.model.buffers(), strict=True):
        assert torch.equal(buffer, other), name
    assert cached.model[1].num_batches_tracked == 3


def test_buffers_are_kept_though_a_pass_breaks_off() -> None:
    norm = nn.BatchNorm2d(2)
    with pytest.raises(RuntimeError, match="size"), buffers_kept(norm):
        norm(torch.ones(4, 2, 3, 3)).view(5)
    assert torch.equal(norm.running_mean, torch.zeros(2)) and norm.num_batches_tracked == 0


@EACH_DEVICE
def test_dropout_is_the_same_in_both_passes_and_not_in_all_micro_batches(device: torch.device) -> None:
    seen: list[Tensor] = []
    task = Contrast(network(group_norm, out=8, dropout=0.5))
    task.model[6].register_forward_hook(lambda module, inputs, output: seen.append(output == 0))
    image = one_batch(1, views=2, device=device)["image"].expand(4, -1, -1, -1, -1)  # equal photos
    gradient(task, {"image": image}, 2)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])


def test_micro_batches_of_a_separable_task_draw_their_own_random_numbers() -> None:
    seen: list[Tensor] = []
    task = Classification(network(group_norm, dropout=0.5))
    task.model[6].register_forward_hook(lambda module, inputs, output: seen.append(output == 0))
    batch = one_batch(1)
    for _ in range(2):
        gradient(task, {name: tensor.expand(4, *tensor.shape[1:]) for name, tensor in batch.items()}, 2)
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])  # the same step again
    assert not torch.equal(seen[0], seen[1])


def test_random_numbers_follow_from_seed_step_process_and_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(seed: int = 1, step: int = 5, rank: int = 0, part: int = 0) -> Tensor:
        monkeypatch.setenv("RANK", str(rank))
        with Passes(CPU, "fp32", seed).forward(step, part):
            return torch.rand(4)

    first = draw()
    assert torch.equal(draw(), first)
    for other in (draw(seed=2), draw(step=6), draw(rank=1), draw(part=1)):
        assert not torch.equal(other, first)


@EACH_DEVICE
@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_a_scaled_loss_gives_a_scaled_gradient_and_an_unscaled_loss(
    views: int, micro_batch: int | None, device: torch.device
) -> None:
    task = Contrast(network(group_norm)) if views == 2 else Classification(network(group_norm))
    batch = one_batch(6, views=views, device=device)
    plain, loss, _ = gradient(task, batch, micro_batch)
    scaled, scaled_loss, _ = gradient(task, batch, micro_batch, scale=1024.0)
    assert relative(scaled / 1024, plain) < 1e-5
    assert scaled_loss == loss


def test_cached_embeddings_of_bf16_are_compared_in_float32() -> None:
    class Dtypes(Contrast):
        def batch_loss(self, embeddings: Tensor, step: int) -> tuple[Tensor, Logs]:
            assert embeddings.dtype == torch.float32
            return super().batch_loss(embeddings, step)

    task, batch = Dtypes(network(group_norm, out=8)), one_batch(6, views=2)
    half, *_ = gradient(task, batch, 2, precision="bf16")
    full, *_ = gradient(task, batch, 2)
    assert 0 < relative(half, full) < 0.1
