"""Class balance: its thresholds against a slow reference, and what they leave out."""

from __future__ import annotations

import math

import pytest
import torch

from simclrseg.targets.segment.balance import BINS, ClassBalance, lowest_bins


def spelled_out(labelled: list[float], sure: list[list[float]]) -> list[int]:
    """The first bin of each class from which no more of it is left than it should have."""
    shares = [sum(bins) for bins in sure]
    found = []
    for number, share in enumerate(shares):
        wanted = labelled[number] * (sum(shares) - share) / (1 - labelled[number])
        wanted = min(share, max(wanted, share / 2))
        first = 0
        while first < BINS - 1 and sum(sure[number][first:]) > wanted + 1e-6:
            first += 1
        found.append(first)
    return found


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_the_lowest_bins_are_their_definition(classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labelled = torch.rand(classes, generator=generator)
    labelled /= labelled.sum()
    sure = torch.rand(classes, BINS, generator=generator) ** 4
    sure[seed % classes] *= 10
    sure /= 1.5 * sure.sum()
    assert lowest_bins(labelled, sure).tolist() == spelled_out(labelled.tolist(), sure.tolist())


def test_a_class_that_is_seen_too_often_keeps_its_surest_pixels_in_the_proportion_of_the_masks() -> None:
    sure = torch.zeros(2, BINS)
    sure[0, 10], sure[1] = 0.3, 0.5 / BINS  # background 0.3, foreground 0.5, of all degrees
    first = lowest_bins(torch.tensor([0.5, 0.5]), sure)
    assert first[0] == 0
    assert sure[1, first[1] :].sum() == pytest.approx(0.3, abs=0.5 / BINS)


@pytest.mark.parametrize(
    ("labelled", "sure", "kept"),
    [
        ((0.9, 0.1), (0.9, 0.1), (1, 1)),  # as the masks have it
        ((0.99, 0.01), (0.9, 0.0), (0.5, 1)),  # small things of which nothing is sure yet: half of the rest teaches
        ((0.6, 0.4), (0.0, 0.7), (1, 0.5)),
        ((0.5, 0.5), (0.0, 0.0), (1, 1)),
        ((1.0, 0.0), (0.8, 0.1), (1, 0.5)),  # what the masks do not have at all
    ],
)
def test_of_a_class_at_least_half_is_kept(
    labelled: tuple[float, ...], sure: tuple[float, ...], kept: tuple[float, ...]
) -> None:
    spread = torch.tensor(sure)[:, None].expand(-1, BINS) / BINS
    first = lowest_bins(torch.tensor(labelled), spread)
    assert [1 - bin / BINS for bin in first.tolist()] == pytest.approx(kept, abs=1 / BINS)


def step(balance: ClassBalance, answers: torch.Tensor, probability: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    balance.begin()
    pixels = torch.tensor(answers.numel())
    chosen = balance.choose(answers, probability, probability >= 0.9, mask=mask, pixels=pixels)
    balance.settle()
    return chosen


def test_the_shares_are_those_of_masks_and_of_sure_pixels_and_decide_from_the_next_step_on() -> None:
    balance = ClassBalance(2, 0.9)
    answers = torch.tensor([[[0, 1], [1, 1]]])
    probability = torch.tensor([[[0.95, 0.92], [0.97, 0.5]]])
    mask = torch.tensor([[[0, 0], [1, 255]]], dtype=torch.uint8)
    assert torch.equal(step(balance, answers, probability, mask), probability >= 0.9)
    assert balance.state["labelled"].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert balance.state["sure"].sum(1).tolist() == [0.25, 0.5]
    low, width = math.log(9), (9 - math.log(9)) / BINS
    places = {(0, int((math.log(19) - low) / width)), (1, int((math.log(0.92 / 0.08) - low) / width))}
    assert places <= {tuple(place) for place in balance.state["sure"].nonzero().tolist()}
    assert step(balance, answers, probability, mask).tolist() == [
        [[True, False], [True, False]]
    ]  # 0.97 goes before 0.92


def test_shares_change_slowly() -> None:
    balance = ClassBalance(2, 0.9)
    ones, sure = torch.ones(1, 4, 4, dtype=torch.int64), torch.full((1, 4, 4), 0.99)
    step(balance, ones, sure, ones)
    step(balance, 0 * ones, sure, 0 * ones)
    assert balance.state["labelled"].tolist() == pytest.approx([0.02, 0.98])
    assert balance.state["sure"].sum(1).tolist() == pytest.approx([0.02, 0.98])


def test_a_step_without_labels_or_without_content_leaves_the_shares_as_they_are() -> None:
    balance = ClassBalance(2, 0.9)
    answers, sure = torch.tensor([[[0, 1], [1, 1]]]), torch.full((1, 2, 2), 0.99)
    mask = torch.tensor([[[0, 0], [1, 255]]], dtype=torch.uint8)
    step(balance, answers, sure, mask)
    for held in (torch.ones(1, 2, 2, dtype=torch.bool), torch.zeros(1, 2, 2, dtype=torch.bool)):
        before = {name: share.clone() for name, share in balance.state.items()}
        balance.begin()
        balance.choose(answers, sure, held, mask=torch.full_like(mask, 255), pixels=held.sum())
        balance.settle()
        torch.testing.assert_close(balance.state, before)
