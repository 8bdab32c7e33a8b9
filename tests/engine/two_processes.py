"""What tests/engine/test_processes.py runs in two processes at once, on the CPU and on GPUs."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor, nn

from simclrseg.engine.batch_norm import synchronized
from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.engine.gradients import Passes, accumulate_gradient
from simclrseg.engine.loop import fit
from simclrseg.engine.optimizers import parameter_groups, sgd
from simclrseg.engine.task import Batch, Task
from simclrseg.errors import Interrupted
from simclrseg.losses.nt_xent import nt_xent
from simclrseg.losses.segmentation import bce
from simclrseg.metadata import ModelMetadata
from simclrseg.methods.simclr.method import SimCLR
from simclrseg.system import distributed
from simclrseg.targets.segment.learner import Segmentation
from tests.engine.small import CPU, Classification, Contrast, Images, accuracy, group_norm, network, pixels

BATCH = 16
STOP_AT = 5  # the step after which the second process gets a signal


class NTXent(Contrast):
    """The small contrastive task, with the real loss."""

    temperature = 0.1
    batch_loss = SimCLR.batch_loss


class Counted(Classification):
    """Counts over all processes, then divides."""

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        hits, images = 0.0, 0
        for batch in batches:
            if images_here := len(batch["image"]):
                hits += float(accuracy(self.model(pixels(batch)), batch)) * images_here
                images += images_here
        hits, images = distributed.total(torch.tensor([hits, images])).tolist()
        return {"accuracy": hits / images}


class Share:
    """This process's share of each batch, as data/loader.py gives it; a last batch may be short."""

    def __init__(self, steps: int, batch_size: int, *, views: int = 1, last: int | None = None) -> None:
        self.images, self.batch_size = Images(steps, batch_size, views=views), batch_size
        self.last = last or batch_size

    def __len__(self) -> int:
        return len(self.images)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        for step, batch in enumerate(self.images.epoch(epoch, start_step), start_step):
            length = self.last if step == len(self) - 1 else self.batch_size
            yield share({name: tensor[:length] for name, tensor in batch.items()})


def share(batch: Batch) -> Batch:
    rank, world = distributed.rank(), distributed.world_size()
    length = len(batch["image"])
    return {name: tensor[length * rank // world : length * (rank + 1) // world] for name, tensor in batch.items()}


def step(
    task: Task, batch: Batch, micro_batch: int | None, together: int = 1, *, device: torch.device = CPU
) -> dict[str, Any]:
    """Loss, logs, gradient and buffers after one pass over this process's share of a batch."""
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    task.model.to(device).to(memory_format=torch.channels_last)
    own = {name: tensor.to(device) for name, tensor in share(batch).items()}
    with synchronized(task.model):
        options = {"micro_batch": micro_batch, "together": together}
        loss, logs = accumulate_gradient(task, own, step=0, **options, passes=Passes(device, "fp32", 0), scaler=scaler)
    task.model.cpu()
    return {
        "loss": float(loss),
        "logs": {name: float(value) for name, value in logs.items()},
        "gradient": torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None]),
        "buffers": {name: buffer.clone() for name, buffer in task.model.named_buffers()},
    }


def contrast(
    norm: Any,
    *,
    micro_batch: int | None = None,
    train: bool = True,
    order: Tensor | None = None,
    device: torch.device = CPU,
) -> Any:
    model = network(norm, out=8)
    model(torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1)))  # statistics of its own
    model.train(train)
    batch = next(Images(1, BATCH, views=2).epoch(0))
    if order is not None:
        batch = {name: tensor[order] for name, tensor in batch.items()}
    return step(NTXent(model), batch, micro_batch, device=device)


def classify(
    norm: Any, size: int, micro_batch: int | None = None, together: int = 1, device: torch.device = CPU
) -> Any:
    return step(Classification(network(norm)), next(Images(1, size).epoch(0)), micro_batch, together, device=device)


def loss_and_gradient(temperature: float, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """NT-Xent of fixed embeddings, weighted by this process's share, and its gradient at that share."""
    z = torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(2))
    z[1] += z[0]
    mine = share({"image": z.transpose(0, 1)})["image"].transpose(0, 1).to(device, copy=True).requires_grad_()
    loss = nt_xent(mine[0], mine[1], temperature) / distributed.world_size()
    return distributed.total(loss.detach()).cpu(), torch.autograd.grad(loss, mine)[0].cpu()


def train(folder: Path, observers: Sequence[Any] = (), device: torch.device = CPU) -> dict[str, Any]:
    """Train an ordinary task with short last batches, which leave nothing for one of two processes.

    Every process begins with other weights and statistics: those of the first count.
    """
    task = Counted(network())
    with torch.no_grad():
        for tensor in task.model.state_dict().values():
            tensor += distributed.rank()
    checkpoints = Checkpoints(folder)
    optimizer = sgd(parameter_groups(task.model, 0.01), learning_rate=0.02)
    result = fit(
        task,
        Share(4, 6, last=1),
        Share(2, 5, last=1),
        optimizer=optimizer,
        schedule=lambda step: 0.02,
        epochs=3,
        device=device,
        observers=observers,
        checkpoints=checkpoints,
        start=checkpoints.load_last(),
    )
    return {
        "history": [record.train | record.validation for record in result.history],
        "model": task.model.cpu().state_dict(),
    }


class SignalToTheSecond:
    """Sends SIGTERM to the second process, which is to stop both."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def on_start(self, plan: Any) -> None: ...
    def on_epoch(self, record: Any) -> None: ...
    def on_end(self) -> None: ...
    def on_step(self, record: Any) -> None:
        self.told.append(record.step)
        if record.step == STOP_AT and distributed.rank() == 1:
            signal.raise_signal(signal.SIGTERM)


def interrupted(folder: Path) -> str:
    try:
        train(folder, observers=[SignalToTheSecond()])
    except Interrupted as stop:
        return f"{stop} ({stop.exit_code})"
    return "not interrupted"


def scores() -> dict[str, float]:
    """Of a segmentation model on this process's share of 4 + 1 photos."""
    torch.manual_seed(0)
    model = nn.Conv2d(3, 1, 1)
    metadata = ModelMetadata(task="segmentation", encoder="cnn", image_size=8, classes=("a", "b"), threshold=0.5)
    task = Segmentation(model, metadata.model_copy(update={"mean": (0.5,) * 3, "std": (0.2,) * 3}), bce)
    images = next(Images(1, 5).epoch(0))["image"]
    batch = {"image": images, "mask": (images[..., 0] > 100).to(torch.uint8)}
    with torch.no_grad():
        return task.evaluate(
            share({name: tensor[rows] for name, tensor in batch.items()}) for rows in (slice(4), slice(4, 5))
        )


def gathered(device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """Rows of all, and the gradient of a sum over processes whose losses differ."""
    rows = torch.full((2, 1), float(distributed.rank()), requires_grad=True, device=device)
    everyone = distributed.gather(rows)
    places = torch.arange(len(everyone), device=device)
    (everyone.squeeze(1) * places * (1 + distributed.rank())).sum().backward()
    assert rows.grad is not None
    return everyone.detach().cpu(), rows.grad.cpu()


def summed(device: torch.device = CPU) -> list[Tensor]:
    """Tensors of several shapes and types that fill several messages, summed over processes."""
    tensors = [torch.full((size,), float(size)) for size in (3, 5, 2, 40, 1, 6, 6)]
    tensors += [torch.ones(2, 3, dtype=torch.float64), torch.ones(3, 4).T]
    tensors = [tensor.to(device) * (1 + 10 * distributed.rank()) for tensor in tensors]
    with mock.patch.object(distributed, "BUCKET", 64):  # bytes: 16 numbers of float32, 8 of float64
        distributed.sum_in_place(tensors)
    return [tensor.cpu() for tensor in tensors]


def main(folder: Path, backend: Literal["cpu", "shared", "nccl"] = "cpu") -> None:
    """Compute everything.

    Args:
        backend: ``shared`` lets all processes use the first GPU, which NCCL refuses: over gloo.
    """
    torch.set_num_threads(1)
    device = {"cpu": CPU, "shared": torch.device("cuda", 0), "nccl": torch.device("cuda", distributed.rank())}[backend]
    if backend != "cpu":
        torch.cuda.set_device(device)
    distributed.start(CPU if backend == "shared" else device)  # gloo takes tensors of a GPU too
    on = {"device": device}
    results: dict[str, Any] = {
        "group norm": contrast(group_norm, **on),
        "group norm, micro": contrast(group_norm, micro_batch=3, **on),
        "eval": contrast(nn.BatchNorm2d, train=False, **on),
        "eval, micro": contrast(nn.BatchNorm2d, train=False, micro_batch=4, **on),
        "batch norm": contrast(nn.BatchNorm2d, **on),
        "batch norm, micro": contrast(nn.BatchNorm2d, micro_batch=4, **on),
        "uneven": {size: classify(nn.BatchNorm2d, size, **on) for size in (9, 1)},
        "uneven, micro": classify(group_norm, 9, 2, **on),
        "two and one": classify(nn.BatchNorm2d, 3, 1, together=2, **on),
        "nt_xent": {temperature: loss_and_gradient(temperature, **on) for temperature in (0.005, 0.1, 1.0)},
        "gather": gathered(**on),
        "summed": summed(**on),
        "scores": scores(),
        "union": distributed.union([f"only {distributed.rank()}", "both"]),
        "of the first": distributed.from_main(lambda: f"made by {distributed.rank()}"),
        "fit": train(folder / "fit", **on),
        "interrupted": interrupted(folder / "stopped"),
    }
    began = time.perf_counter()
    results["failure"] = distributed.first_failure(3 + distributed.rank())
    results["farewell"] = time.perf_counter() - began
    torch.save(results, folder / f"{distributed.rank()}.pt")
