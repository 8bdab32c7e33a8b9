"""NT-Xent, forward and backward: time and memory of ours against lightly's, and against one whole similarity matrix.

Run it on a quiet machine: ``python -m tests.benchmarks.nt_xent``. It needs the ``bench`` extra. Memory is measured on
Linux only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from torch import Tensor

from simclrseg.losses.nt_xent import nt_xent
from tests.benchmarks._common import interleave, machine, peak_memory, print_added_memory, print_table

SIZE, TEMPERATURE = 128, 0.1
LIGHTLY, WHOLE, OURS = "lightly NTXentLoss", "one matrix, cross_entropy", "simclrseg nt_xent"


def whole_matrix(z1: Tensor, z2: Tensor) -> Tensor:
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    similarity = (z / TEMPERATURE) @ z.T
    similarity.fill_diagonal_(float("-inf"))
    return F.cross_entropy(similarity, torch.arange(len(z)).roll(len(z1)))


def variant(name: str, n: int) -> Callable[[], Tensor]:
    """One forward and backward pass over the same n pairs; gives the gradient."""
    generator = torch.Generator().manual_seed(0)
    z1 = torch.randn(n, SIZE, generator=generator)
    z2 = z1 + 2 * torch.randn(n, SIZE, generator=generator)
    z1.requires_grad_()
    z2.requires_grad_()
    loss: Callable[[Tensor, Tensor], Tensor] = {
        LIGHTLY: NTXentLoss(temperature=TEMPERATURE),
        WHOLE: whole_matrix,
        OURS: lambda a, b: nt_xent(a, b, TEMPERATURE),
    }[name]

    def run() -> Tensor:
        return torch.cat(torch.autograd.grad(loss(z1, z2), (z1, z2)))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[120, 512, 2048, 4096], help="numbers of pairs N")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        name, n = arguments.memory_of[0], int(arguments.memory_of[1])
        variant(name, 64)()  # code paths and threads
        print_added_memory(variant(name, n))
        return
    print(machine())
    for n in arguments.sizes:
        variants = {name: variant(name, n) for name in (LIGHTLY, WHOLE, OURS)}
        error = (variants[OURS]() - variants[WHOLE]()).norm() / variants[WHOLE]().norm()
        timings = interleave(variants, rounds=arguments.rounds, threads=arguments.threads)
        print(f"\nN = {n}, D = {SIZE}, float32, {arguments.threads} threads; gradient apart by {error:.1e}, relative")
        rows = [
            [
                name,
                f"{1e3 * timings.median(name):.1f}",
                f"{timings.ratio(name, LIGHTLY):.2f}x",
                peak_memory("tests.benchmarks.nt_xent", name, str(n), "--threads", str(arguments.threads)),
            ]
            for name in variants
        ]
        print_table(["forward and backward", "ms", "to lightly", "peak MB"], rows)
        print(timings.note())


if __name__ == "__main__":
    main()
