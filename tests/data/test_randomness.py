import numpy as np
import pytest

from simclrseg.data.randomness import permutation, uniform


def test_numbers_are_uniform_and_columns_are_uncorrelated() -> None:
    u = uniform(0, 0, np.arange(20_000), 8)
    assert u.min() >= 0
    assert u.max() < 1
    histogram = np.histogram(u, bins=50, range=(0, 1))[0]
    expected = u.size / 50
    assert ((histogram - expected) ** 2 / expected).sum() < 100  # chi-squared, 49 degrees: p < 1e-5 above
    correlation = np.corrcoef(u.T) - np.eye(8)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_seed_epoch_and_index_each_change_every_number(other: tuple[int, int, int]) -> None:
    seed, epoch, offset = other
    n = 5000
    a, b = uniform(0, 0, np.arange(n), 4), uniform(seed, epoch, np.arange(n) + offset, 4)
    assert not (a == b).any()
    assert np.abs([np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(4)]).max() < 5 / np.sqrt(n)


def test_a_row_depends_on_its_own_index_only() -> None:
    whole = uniform(7, 3, np.arange(100), 6)
    some = np.array([90, 4, 4, 17])
    np.testing.assert_array_equal(uniform(7, 3, some, 6), whole[some])


def test_a_column_does_not_depend_on_how_many_there_are() -> None:
    np.testing.assert_array_equal(uniform(7, 3, np.arange(10), 64)[:, :6], uniform(7, 3, np.arange(10), 6))


def test_numbers_are_those_of_splitmix64_spelled_out_in_whole_numbers() -> None:
    word, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15

    def mix(x: int) -> int:
        x = ((x & word) ^ (x & word) >> 30) * 0xBF58476D1CE4E5B9 & word
        x = (x ^ x >> 27) * 0x94D049BB133111EB & word
        return x ^ x >> 31

    for seed, epoch, index in ((0, 0, 0), (42, 5, 1234), (2**40, 300, 10**7)):
        stream = mix(mix(mix(seed) + (epoch + 1) * golden) + (index + 1) * golden)
        expected = [(mix(stream + (column + 1) * golden) >> 11) / 2**53 for column in range(5)]
        assert uniform(seed, epoch, np.array([index]), 5)[0].tolist() == expected


def test_large_and_negative_seeds_are_taken() -> None:
    draws = [uniform(seed, 0, np.arange(3), 1)[0, 0] for seed in (-1, 0, 2**40, 2**63)]
    assert len(set(draws)) == 4


def test_permutation_holds_each_index_once_and_changes_with_the_epoch() -> None:
    first, second = permutation(0, 0, 1000), permutation(0, 1, 1000)
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    assert (first == second).mean() < 0.01
    assert (first == np.arange(1000)).mean() < 0.01


def test_permutations_reach_every_order_equally_often() -> None:
    orders = [tuple(permutation(0, epoch, 3)) for epoch in range(6000)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 150
