"""The projection head."""

from __future__ import annotations

import torch

from simclrseg.models.heads import ProjectionHead


def test_the_head_projects_to_the_size_asked_for_and_has_no_biases_but_its_norms():
    head = ProjectionHead(64, hidden=32, out=16)
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
