"""The losses of segmentation against torch's own and in their treatment of ignored pixels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simclrseg.losses import LOSSES
from simclrseg.losses.segmentation import bce, ce


def sample(loss: Callable[[Tensor, Tensor], Tensor], n: int = 3) -> tuple[Tensor, Tensor]:
    classes = 1 if loss is bce else 4
    logits = torch.randn(n, classes, 6, 5, generator=torch.Generator().manual_seed(1))
    mask = torch.randint(0, max(2, classes), (n, 6, 5), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    return logits.requires_grad_(), mask


def test_every_loss_of_the_table_is_a_scalar_function_of_logits_and_mask() -> None:
    for name in LOSSES:
        logits, mask = sample(LOSSES[name])
        assert LOSSES[name](logits, mask).shape == ()


def test_bce_equals_torchs_when_nothing_is_ignored() -> None:
    logits, mask = sample(bce)
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], mask.float())
    torch.testing.assert_close(bce(logits, mask), expected)


def test_ce_equals_torchs_when_nothing_is_ignored() -> None:
    logits, mask = sample(ce)
    torch.testing.assert_close(ce(logits, mask), F.cross_entropy(logits, mask.long()))


@pytest.mark.parametrize("loss", [bce, ce])
def test_ignored_pixels_change_neither_loss_nor_gradient(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits, mask = sample(loss)
    mask[:, :2] = 255
    (gradient,) = torch.autograd.grad(loss(logits, mask), logits)
    assert (gradient[:, :, :2] == 0).all()
    assert (gradient[:, :, 2:] != 0).all()
    torch.testing.assert_close(loss(logits, mask), loss(logits[:, :, 2:], mask[:, 2:]))


@pytest.mark.parametrize("loss", [bce, ce])
def test_a_mask_that_is_wholly_ignored_costs_nothing(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits, mask = sample(loss)
    value = loss(logits, torch.full_like(mask, 255))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("loss", [bce, ce])
def test_the_loss_is_the_mean_of_its_photos(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits, mask = sample(loss, 4)
    mask[0, :3] = 255  # photos with different numbers of counted pixels
    one_by_one = torch.stack([loss(logits[i : i + 1], mask[i : i + 1]) for i in range(4)]).mean()
    torch.testing.assert_close(loss(logits, mask), one_by_one)
