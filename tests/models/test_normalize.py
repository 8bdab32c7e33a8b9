"""Normalisation against its formula."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from simclrseg.models.normalize import Normalize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(("full_scale", "dtype"), [(255, torch.uint8), (10_000, torch.uint16)])
def test_pixels_are_normalised_by_channel(full_scale: int, dtype: torch.dtype) -> None:
    images = torch.randint(0, full_scale + 1, (3, 5, 7, 3)).to(dtype)
    expected = (images.double() / full_scale - torch.tensor(MEAN)) / torch.tensor(STD)
    got = Normalize(MEAN, STD, full_scale)(images)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


def test_the_memory_keeps_its_order() -> None:
    got = Normalize(MEAN, STD)(torch.zeros(2, 8, 8, 3, dtype=torch.uint8))
    assert got.shape == (2, 3, 8, 8)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_the_batch_itself_is_left_as_it_was() -> None:
    images = torch.full((1, 2, 2, 3), 9, dtype=torch.uint8)
    Normalize(MEAN, STD)(images)
    assert (images == 9).all()


def test_a_large_batch_is_computed_in_pieces_and_a_smaller_one_after_it_too() -> None:
    normalize = Normalize(MEAN, STD)
    for number in (9, 2):
        images = torch.randint(0, 256, (number, 256, 200, 3), dtype=torch.uint8)
        expected = (images.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        torch.testing.assert_close(normalize(images), expected.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


def test_a_result_stays_when_the_next_one_is_asked_for() -> None:
    normalize = Normalize(MEAN, STD)
    first, second = torch.randint(0, 256, (2, 2, 8, 8, 3), dtype=torch.uint8)
    result = normalize(first)
    expected = result.clone()
    normalize(second)
    assert torch.equal(result, expected)


def test_what_was_computed_in_inference_mode_does_not_keep_training_from_it() -> None:
    normalize = Normalize(MEAN, STD)
    convolution = torch.nn.Conv2d(3, 4, 3)
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    with torch.inference_mode():
        normalize(images)
    convolution(normalize(images)).sum().backward()
    assert convolution.weight.grad is not None and convolution.weight.grad.abs().sum() > 0


def test_a_rehearsal_on_tensors_that_only_have_a_shape_leaves_nothing_behind() -> None:
    normalize = Normalize(MEAN, STD)
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert normalize(mode.from_tensor(images)).shape == (2, 3, 8, 8)
    assert type(normalize(images)) is torch.Tensor
