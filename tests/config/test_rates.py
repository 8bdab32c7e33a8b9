"""Numbers that follow from other knobs: the scaled learning rate and the warm-up."""

from __future__ import annotations

import pytest

from simclrseg.config.pretrain import PretrainConfig
from simclrseg.training.knobs import Training


def training(**knobs) -> Training:
    return PretrainConfig.model_validate({"data": {"dataset": ["shapes"]}, "training": knobs}).training


@pytest.mark.parametrize(
    ("scaling", "batch_size", "rate"),
    [
        ("none", 120, 0.3),
        ("none", 4096, 0.3),
        ("linear", 128, 0.15),
        ("linear", 256, 0.3),
        ("linear", 4096, 4.8),
        ("sqrt", 4, 0.15),
        ("sqrt", 256, 1.2),
        ("sqrt", 4096, 4.8),
    ],
)
def test_the_rate_is_0_3_of_a_batch_of_256_or_0_075_of_its_root(scaling, batch_size, rate):
    knobs = training(optimizer="lars", lr_scaling=scaling, batch_size=batch_size)
    assert knobs.scaled_rate == pytest.approx(rate, rel=1e-12)


def test_a_rate_of_ones_own_is_scaled_too():
    knobs = training(learning_rate=0.01, lr_scaling="linear", batch_size=512)
    assert knobs.scaled_rate == pytest.approx(0.02, rel=1e-12)


@pytest.mark.parametrize(("epochs", "warmup"), [(5, 0.5), (20, 2), (99, 9.9), (100, 10), (101, 10), (800, 10)])
def test_warm_up_is_a_tenth_of_the_run_and_ten_epochs_at_most(epochs, warmup):
    assert training(epochs=epochs).warmup == pytest.approx(warmup)


def test_a_warm_up_of_ones_own_is_not_clamped():
    assert training(epochs=100, warmup_epochs=30).warmup == 30
    assert training(epochs=100, warmup_epochs=0).warmup == 0


@pytest.mark.parametrize(("schedule", "warmup"), [("cosine", 0.1), ("one-cycle", 0.3)])
def test_a_warm_up_that_the_run_has_no_epochs_for_is_that_of_the_default(schedule, warmup):
    assert training(epochs=1, warmup_epochs=10, schedule=schedule).warmup == pytest.approx(warmup)
    assert training(epochs=10, warmup_epochs=10, schedule=schedule).warmup == pytest.approx(10 * warmup)
    assert training(epochs=11, warmup_epochs=10, schedule=schedule).warmup == 10


def test_a_schedule_that_stays_takes_no_other_end():
    message = "final_rate is for schedule cosine and one-cycle and has no meaning for schedule constant"
    with pytest.raises(ValueError, match=message):
        training(schedule="constant", final_rate=0.1)
    tree = {"data": {"dataset": ["shapes"]}, "model": {"method": "reconstruction"}}
    constant = {**tree, "training": {"schedule": "constant"}}
    ends = [PretrainConfig.model_validate(config).training.final_rate for config in (tree, constant)]
    assert ends == [0.01, 0.0]  # the method's own is none of the user's doing
