"""The losses of segmentation against torch's and segmentation-models-pytorch's, and in what they leave out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses._functional import softmax_focal_loss_with_logits
from torch import Tensor

from simclrseg.losses import LOSSES
from simclrseg.losses.segmentation import bce, ce, dice, focal, jaccard, total

Loss = Callable[..., Tensor]
CLASSES = 4
LIBRARYS = {dice: smp.losses.DiceLoss, jaccard: smp.losses.JaccardLoss}
CASES = [(bce, 1), (ce, CLASSES), *((loss, outputs) for loss in (dice, focal, jaccard) for outputs in (1, CLASSES))]


def sample(outputs: int, n: int = 3) -> tuple[Tensor, Tensor]:
    logits = torch.randn(n, outputs, 6, 5, generator=torch.Generator().manual_seed(1))
    mask = torch.randint(0, max(2, outputs), (n, 6, 5), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    return logits.requires_grad_(), mask


def test_every_loss_of_the_table_is_tested_here() -> None:
    assert {loss for loss, _ in CASES} == {LOSSES[name] for name in LOSSES}


def test_bce_equals_torchs_when_nothing_is_ignored() -> None:
    logits, mask = sample(1)
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], mask.float())
    torch.testing.assert_close(bce(logits, mask), expected)


def test_ce_equals_torchs_when_nothing_is_ignored() -> None:
    logits, mask = sample(CLASSES)
    torch.testing.assert_close(ce(logits, mask), F.cross_entropy(logits, mask.long()))


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_focal_equals_segmentation_models_pytorchs(gamma: float) -> None:
    logits, mask = sample(1)
    library = smp.losses.FocalLoss("binary", gamma=gamma, ignore_index=255)
    torch.testing.assert_close(focal(logits, mask, gamma=gamma), library(logits, mask.long()))
    logits, mask = sample(CLASSES)
    expected = softmax_focal_loss_with_logits(logits, mask.long(), gamma=gamma)
    torch.testing.assert_close(focal(logits, mask, gamma=gamma), expected)


@pytest.mark.parametrize("outputs", [1, CLASSES])
def test_pixels_that_are_surely_right_leave_focal_a_gradient(outputs: int) -> None:
    _, mask = sample(outputs)
    truth = mask.unsqueeze(1) == (torch.arange(outputs).view(-1, 1, 1) if outputs > 1 else 1)
    logits = (400.0 * truth - 200).requires_grad_()
    logits = torch.where(mask.unsqueeze(1) == mask[0, 0, 0], logits, 0.1)  # of the other pixels none is sure
    (gradient,) = torch.autograd.grad(focal(logits, mask, gamma=0.5), logits)
    assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("loss", [dice, jaccard])
def test_overlap_losses_equal_segmentation_models_pytorchs_on_each_photo(loss: Loss) -> None:
    logits, mask = sample(1)
    mask[0, :2] = 255
    library = LIBRARYS[loss]("binary", ignore_index=255)
    expected = torch.stack([library(logits[i : i + 1], mask[i : i + 1].long()) for i in range(3)]).mean()
    torch.testing.assert_close(loss(logits, mask), expected)

    logits, mask = sample(CLASSES)
    mask[mask == 3] = 0  # one class occurs nowhere: the library divides by all four, we by those that occur
    mask[1, 2:] = 255
    library = LIBRARYS[loss]("multiclass", ignore_index=255)
    found = [len(set(mask[i].unique().tolist()) - {255}) for i in range(3)]
    photos = [library(logits[i : i + 1], mask[i : i + 1].long()) * CLASSES / found[i] for i in range(3)]
    torch.testing.assert_close(loss(logits, mask), torch.stack(photos).mean())


@pytest.mark.parametrize(("loss", "outputs"), CASES)
def test_ignored_pixels_change_neither_loss_nor_gradient(loss: Loss, outputs: int) -> None:
    logits, mask = sample(outputs)
    mask[:, :2] = 255
    weights = torch.tensor([0.5, 2.0, 1.0, 1.5])[: max(2, outputs)]
    for given in (None, weights):
        (gradient,) = torch.autograd.grad(loss(logits, mask, given), logits)
        assert (gradient[:, :, :2] == 0).all()
        assert (gradient[:, :, 2:] != 0).all()
        torch.testing.assert_close(loss(logits, mask, given), loss(logits[:, :, 2:], mask[:, 2:], given))


@pytest.mark.parametrize(("loss", "outputs"), CASES)
def test_a_mask_that_is_wholly_ignored_costs_nothing(loss: Loss, outputs: int) -> None:
    logits, mask = sample(outputs)
    value = loss(logits, torch.full_like(mask, 255))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize(("loss", "outputs"), CASES)
def test_the_loss_is_the_mean_of_its_photos(loss: Loss, outputs: int) -> None:
    logits, mask = sample(outputs, 4)
    mask[0, :3] = 255  # photos with different numbers of counted pixels
    weights = torch.tensor([0.5, 2.0, 1.0, 1.5])[: max(2, outputs)]
    for given in (None, weights):
        one_by_one = torch.stack([loss(logits[i : i + 1], mask[i : i + 1], given) for i in range(4)]).mean()
        torch.testing.assert_close(loss(logits, mask, given), one_by_one)


@pytest.mark.parametrize(("loss", "outputs"), CASES)
def test_every_loss_sinks_with_a_step_against_its_gradient_to_almost_nothing(loss: Loss, outputs: int) -> None:
    logits, mask = sample(outputs)
    before = loss(logits, mask)
    (gradient,) = torch.autograd.grad(before, logits)
    assert loss(logits - 0.1 * gradient, mask) < before
    truth = mask.unsqueeze(1) == (torch.arange(outputs).view(-1, 1, 1) if outputs > 1 else 1)
    assert loss(40.0 * truth - 20, mask) < 1e-5


@pytest.mark.parametrize(("loss", "outputs"), [(bce, 1), (ce, CLASSES), (focal, 1), (focal, CLASSES)])
def test_the_weight_of_a_class_is_that_of_its_pixels(loss: Loss, outputs: int) -> None:
    logits, mask = sample(outputs)
    weights = torch.tensor([0.5, 2.0, 3.0, 1.5])[: max(2, outputs)]
    expected = torch.zeros(())
    for index, weight in enumerate(weights):
        alone = torch.where(mask == index, mask, 255)  # this class's pixels, the others ignored
        for photo in range(3):
            share = (mask[photo] == index).sum() / mask[photo].numel()
            expected = expected + weight * share * loss(logits[photo : photo + 1], alone[photo : photo + 1]) / 3
    torch.testing.assert_close(loss(logits, mask, weights), expected)


@pytest.mark.parametrize("loss", [dice, jaccard])
def test_weighted_overlap_losses_are_segmentation_models_pytorchs_where_every_class_occurs(loss: Loss) -> None:
    logits, mask = sample(CLASSES)
    weights = [0.5, 2.0, 3.0, 1.5]
    library = LIBRARYS[loss]("multiclass", class_weights=weights)
    expected = torch.stack([library(logits[i : i + 1], mask[i : i + 1].long()) for i in range(3)]).mean()
    torch.testing.assert_close(loss(logits, mask, torch.tensor(weights)), expected)


def test_a_sum_of_losses_is_their_sum_with_the_same_weights() -> None:
    logits, mask = sample(CLASSES)
    weights = [0.5, 2.0, 3.0, 1.5]
    both = total([ce, dice], weights)(logits, mask)
    given = torch.tensor(weights)
    torch.testing.assert_close(both, ce(logits, mask, given) + dice(logits, mask, given))
    assert total([ce])(logits, mask) == ce(logits, mask)
