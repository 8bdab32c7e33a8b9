"""The contrast of places against its definition, spelled out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from simclrseg.losses import places as module
from simclrseg.losses.places import PlaceContrast, place_contrast
from simclrseg.system import distributed
from tests.engine.small import CPU
from tests.processes import together

TEMPERATURE, APART = 0.3, 0.25


def example(n: int = 5, places: int = 6, size: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings (n, 2, places, size), where the places lie, and which images count: the second does not."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(n, places, size, generator=generator, dtype=torch.float64)
    second = first + torch.randn(n, places, size, generator=generator, dtype=torch.float64)
    where = 0.6 * torch.rand(n, places, 2, generator=generator, dtype=torch.float64)
    return torch.stack([first, second], 1).requires_grad_(), where, torch.arange(n) != 1


def found(z: Tensor, where: Tensor, matched: Tensor, *, negatives: int = 1000, seed: int = 0) -> PlaceContrast:
    torch.manual_seed(seed)
    return place_contrast(z, where, matched, TEMPERATURE, apart=APART, negatives=negatives)


def definition(z: Tensor, where: Tensor, matched: Tensor, *, negatives: int = 1000, seed: int = 0) -> dict[str, Tensor]:
    """One anchor after the other."""
    n, _, places, _ = z.shape
    torch.manual_seed(seed)
    drawn = [divmod(place, places) for place in torch.randperm(n * places)[:negatives].tolist()]
    losses, hits, shares, levels = [], [], [], []
    for image in [each for each in range(n) if matched[each]]:
        for view, place in [(view, place) for view in range(2) for place in range(places)]:

            def similarity(other: int, at: int, image: int = image, view: int = view, place: int = place) -> Tensor:
                a, b = z[image, view, place], z[other, 1 - view, at]
                return a @ b / (a.norm() * b.norm())

            positive = similarity(image, place)
            others = [
                *((image, at) for at in range(places) if math.dist(where[image, place], where[image, at]) >= APART),
                *((other, at) for other, at in drawn if other != image and matched[other]),
            ]
            negative = [similarity(*other) for other in others]
            exponentials = [torch.exp(value / TEMPERATURE) for value in (positive, *negative)]
            losses.append(-torch.log(exponentials[0] / sum(exponentials)))
            hits.append(all(positive > value for value in negative))
            shares.append(1 / len(exponentials))
            levels.append(math.log(len(exponentials)))
    others = {"top1": hits, "top1_chance": shares, "chance": levels}
    means = {name: torch.tensor(values, dtype=torch.float64).mean() for name, values in others.items()}
    return {"loss": torch.stack(losses).mean(), **means}


@pytest.mark.parametrize("negatives", [1000, 11])
@pytest.mark.parametrize("workspace", [1, 2000, 2**25])
def test_the_contrast_of_places_equals_its_definition(
    negatives: int, workspace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORKSPACE", workspace)  # blocks of one image, of a few, of all
    z, where, matched = example()
    got, expected = found(z, where, matched, negatives=negatives), definition(z, where, matched, negatives=negatives)
    for name, value in expected.items():
        assert getattr(got, name).item() == pytest.approx(value.item(), rel=1e-9), name
    (gradient,) = torch.autograd.grad(got.loss, z)
    (slow,) = torch.autograd.grad(expected["loss"], z)
    torch.testing.assert_close(gradient, slow)
    assert 0 < float(got.top1) < 1


def test_near_places_of_an_image_are_no_negatives_and_distant_ones_are() -> None:
    z, where, matched = example(1)
    where = torch.tensor([[[0.0, 0.0], [0.1, 0.0], [0.0, 0.3], [0.1, 0.3], [0.5, 0.5], [0.5, 0.6]]])
    got = found(z, where, matched)
    counts = [4, 4, 4, 4, 4, 4]  # each has its neighbour, and four that are 0.25 of the diagonal away or more
    assert float(got.chance) == pytest.approx(sum(math.log(1 + count) for count in counts) / 6)
    far = found(z, 10 * where, matched)
    assert float(far.chance) == pytest.approx(math.log(1 + 5)) and far.loss > got.loss


def test_places_of_unmatched_images_have_no_part() -> None:
    z, where, matched = example()
    kept = torch.arange(5) != 1
    alone = found(z[kept], where[kept], matched[kept])
    assert found(z, where, matched).loss.item() == pytest.approx(alone.loss.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(found(z, where, matched).loss, z)
    assert not gradient[1].any() and gradient[kept].flatten(1).any(1).all()


def test_a_batch_in_which_nothing_is_matched_has_no_loss_and_no_gradient() -> None:
    z, where, matched = example()
    got = found(z, where, torch.zeros_like(matched))
    assert [value.item() for value in got] == [0.0] * 4
    (gradient,) = torch.autograd.grad(got.loss, z)
    assert gradient.isfinite().all() and not gradient.any()


def test_a_lone_image_whose_places_are_all_near_has_nothing_to_tell_apart() -> None:
    z, where, matched = example(1)
    got = found(z, 0.01 * where, matched)
    assert [value.item() for value in got] == [0.0, 1.0, 1.0, 0.0]


def test_equal_embeddings_have_the_loss_of_chance_and_are_never_found() -> None:
    z, where, matched = example()
    got = found(torch.ones_like(z), where, matched)
    assert got.loss.item() == pytest.approx(got.chance.item()) and got.top1 == 0


def test_negatives_are_drawn_anew_from_step_to_step_and_alike_for_one_seed() -> None:
    one, again, other = (found(*example(), negatives=8, seed=seed).loss.item() for seed in (0, 0, 1))
    assert one == again != other


def test_the_loss_is_the_same_inside_autocast() -> None:
    z, where, matched = example()
    small = z.detach().float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = found(small, where, matched).loss
    assert inside.dtype == torch.float32 and torch.equal(inside, found(small, where, matched).loss)


def share_of_a_process(folder: Path) -> None:
    """Loss, and gradient of the processes' mean, of this process's share of eight images."""
    torch.set_num_threads(1)
    distributed.start(CPU)
    parts = [each.detach().chunk(distributed.world_size())[distributed.rank()] for each in example(8)]
    z = parts[0].requires_grad_()
    got = found(z, *parts[1:], negatives=20)
    (gradient,) = torch.autograd.grad(got.loss / distributed.world_size(), z)
    everything = {"values": distributed.total(torch.stack(got).detach()) / distributed.world_size()}
    torch.save(everything | {"gradient": gradient}, folder / f"{distributed.world_size()}-{distributed.rank()}.pt")
    distributed.dismiss()


def test_several_processes_contrast_their_places_with_those_of_all(tmp_path: Path) -> None:
    share_of_a_process(tmp_path)
    together(share_of_a_process, tmp_path)
    alone, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    torch.testing.assert_close(first["values"], alone["values"])
    torch.testing.assert_close(torch.cat([first["gradient"], second["gradient"]]), alone["gradient"])
