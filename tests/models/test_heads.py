"""The projection head."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from simclrseg.methods.knobs import Projection
from simclrseg.models.heads import ProjectionHead


def test_the_head_projects_to_the_size_asked_for_and_has_no_biases_but_its_norms():
    head = ProjectionHead(64, hidden=[32], out=16)
    assert head(torch.randn(4, 64)).shape == (4, 16)
    assert [tuple(parameter.shape) for parameter in head.parameters()] == [
        (32, 64),
        (32,),
        (32,),
        (16, 32),
        (16,),
        (16,),
    ]


def test_each_projected_dimension_is_standardised_over_the_batch():
    projections = ProjectionHead(64)(torch.randn(256, 64) * 3 + 1)
    assert torch.allclose(projections.mean(0), torch.zeros(128), atol=1e-5)
    assert torch.allclose(projections.std(0, correction=0), torch.ones(128), atol=1e-2)


@pytest.mark.parametrize(
    ("features", "hidden", "out", "shapes"),
    [
        (2048, [512], 128, [(512, 2048), (128, 512)]),
        (512, [512, 512], 128, [(512, 512), (512, 512), (128, 512)]),
        (512, [], 256, [(256, 512)]),
    ],
)
def test_a_head_is_as_deep_and_wide_as_asked(features, hidden, out, shapes):
    head = ProjectionHead(features, hidden, out)
    linear = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linear] == shapes
    assert sum(isinstance(layer, nn.ReLU) for layer in head.layers) == len(hidden)
    assert isinstance(head.layers[-1], nn.BatchNorm1d) and head(torch.randn(4, features)).shape == (4, out)


def test_a_head_without_hidden_layers_is_linear_but_for_the_scale_of_its_norm():
    head = ProjectionHead(8, [], 4).eval()
    x, y = torch.randn(2, 5, 8)
    assert torch.allclose(head(x + 2 * y), head(x) + 2 * head(y), atol=1e-5)


@pytest.mark.parametrize(
    ("written", "read"), [([512, 256], [512, 256]), (512, [512]), ("64", [64]), (0, []), (["0"], []), ([], [])]
)
def test_widths_are_a_list_or_a_number_and_zero_is_none(written, read):
    assert Projection(projection_hidden=written).projection_hidden == read


@pytest.mark.parametrize("wrong", [[512, 0], -1, "wide"])
def test_a_width_below_one_is_refused(wrong):
    with pytest.raises(ValidationError):
        Projection(projection_hidden=wrong)
