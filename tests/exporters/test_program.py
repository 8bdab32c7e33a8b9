"""A torch.export program says the same as the network, and where it cannot, it says so."""

from __future__ import annotations

import pytest
import torch

from simclrseg.exporters.graphs import Deploy
from simclrseg.exporters.program import export_program
from tests.exporters.small import described, small


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    export_program(small(1), path, described())
    return torch.export.load(path).module()


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 96, 160), (2, 512, 64)])
def test_sides_that_are_multiples_of_32_give_the_networks_answer(program, shape):
    image = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = Deploy(small(1).eval(), described())(image)
        found = program(image)
    torch.testing.assert_close(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("shape", [(1, 65, 64), (1, 32, 64)])
def test_other_sides_are_refused_by_the_program_itself(program, shape):
    with pytest.raises((AssertionError, RuntimeError, ValueError)):
        program(torch.zeros(*shape, 3, dtype=torch.uint8))


def test_a_fixed_shape_may_be_any(tmp_path):
    export_program(small(1), tmp_path / "model.pt2", described(), fixed_shape=(1, 45, 70))
    fixed = torch.export.load(tmp_path / "model.pt2").module()
    assert fixed(torch.zeros(1, 45, 70, 3, dtype=torch.uint8))[1].shape == (1, 45, 70)
