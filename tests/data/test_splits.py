"""Splits: nested, disjoint, and a function of keys and seed."""

from __future__ import annotations

import hashlib
import json
import random
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from simclrseg.data.datasets.dataset import Dataset, FileDataset
from simclrseg.data.split_file import labelled_test_hash, split_json, stored_split
from simclrseg.data.split_file import test_hash as hash_of_test
from simclrseg.data.splits import make_split
from simclrseg.errors import DataError

KEYS = [f"photo/{index}.jpg" for index in range(561)]
RATIOS = [0.01, 0.1, 0.2, 0.29, 0.5, 0.99, 1.0]


def names(keys, indices):
    return {keys[index] for index in indices}


def test_every_photo_is_in_one_part():
    split = make_split(KEYS, official={})
    parts = [set(split.train), set(split.validation), set(split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 561
    assert len(split.test) == 112
    assert len(split.validation) == 44
    assert split.test_split == "random"


def test_the_line_says_what_the_ratio_took():
    split = make_split(KEYS, official={"trainval": range(561), "test": []}, data_ratio=0.5)
    assert split.line == "0.5: 280 of 561 development photos, 252 train / 28 validation"
    assert split.development == 561
    whole = make_split(KEYS, official={"trainval": range(561), "test": []})
    assert whole.line == "561 development photos, 505 train / 56 validation"
    assert (len(whole.train), len(whole.validation)) == (505, 56)


def test_so_many_images_are_a_part_as_a_ratio_is():
    lists = {"train": range(400), "validation": range(400, 461), "test": range(461, 561)}
    for official in ({}, lists):
        whole, some, fewer = (make_split(KEYS, official=official, max_images=count) for count in (None, 100, 50))
        assert len(some.train) + len(some.validation) in (99, 100)  # where lists say which validate, both parts shrink
        assert {*fewer.train, *fewer.validation} < {*some.train, *some.validation} < {*whole.train, *whole.validation}
        assert fewer.test == some.test == whole.test
    half = make_split(KEYS, official={}, data_ratio=0.5)
    same = make_split(KEYS, official={}, max_images=len(half.train) + len(half.validation))
    assert (same.train, same.validation) == (half.train, half.validation)


def test_the_line_says_how_many_images_were_asked_for():
    line = make_split(KEYS, official={"test": range(61)}, max_images=100).line
    assert line == "--max-images 100: 100 of 500 development photos, 90 train / 10 validation"
    line = make_split(KEYS, official={"test": range(61)}, max_images=900).line
    assert line == "--max-images 900: 500 of 500 development photos, 450 train / 50 validation"
    with pytest.raises(DataError, match=r"and --max-images 1 leave 0 to train .*: add photos, or raise --max-images"):
        make_split(KEYS, official={}, max_images=1)


def test_a_split_is_what_it_was_in_every_version():
    """Runs of older versions are scored on the photos that they did not learn from."""
    options = [
        {},
        {"official": {"test": range(61)}, "data_ratio": 0.5, "seed": 3},
        {"strata": [index % 7 for index in range(561)], "usable": range(0, 561, 2)},
        {"fold": (2, 5), "strata": [index % 4 for index in range(561)]},
        {"group_by": r"\d", "data_ratio": 0.8},
    ]
    found = [make_split(KEYS, **{"official": {}, **chosen}) for chosen in options]
    parts = [[split.train, split.validation, split.test] for split in found]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    assert digest == "67f0016c841ae92c62f02dc55fffded8b359aa204526ac7543679976cc1ea15a"


def test_smaller_ratios_are_nested_in_larger_ones_and_the_test_split_never_changes():
    splits = [make_split(KEYS, official={}, data_ratio=ratio) for ratio in RATIOS]
    assert len({split.test for split in splits}) == 1
    for small, large in pairwise(splits):
        assert {*small.train, *small.validation} <= {*large.train, *large.validation}
    for small, large in pairwise(splits[1:]):  # from ten photos on, part by part
        assert set(small.train) <= set(large.train)
        assert set(small.validation) <= set(large.validation)


def test_the_order_in_which_files_were_found_plays_no_part():
    shuffled = random.Random(0).sample(KEYS, len(KEYS))
    one, other = make_split(KEYS, official={}), make_split(shuffled, official={})
    for part in ("train", "validation", "test"):
        assert names(KEYS, getattr(one, part)) == names(shuffled, getattr(other, part))


def test_another_seed_is_another_split():
    assert make_split(KEYS, official={}, seed=1).test != make_split(KEYS, official={}).test


def test_a_random_test_photo_is_one_for_every_task():
    """A photo that fine-tuning tests on must not be in pretraining, which also uses photos without a mask."""
    everything = make_split(KEYS, official={})
    with_masks = make_split(KEYS, official={}, usable=range(0, 561, 3))
    assert set(with_masks.test) <= set(everything.test)
    assert set(with_masks.train) | set(with_masks.validation) <= set(everything.train) | set(everything.validation)
    assert all(index % 3 == 0 for index in with_masks.train + with_masks.validation + with_masks.test)


def test_published_lists_are_honoured():
    official = {"train": range(100), "validation": range(100, 150), "test": range(150, 300)}
    split = make_split(KEYS, official=official)
    assert (split.train, split.validation, split.test) == tuple(map(tuple, official.values()))
    assert split.test_split == "official"
    half = make_split(KEYS, official=official, data_ratio=0.5)
    assert (len(half.train), len(half.validation), half.test) == (50, 25, split.test)


def test_a_test_list_alone_leaves_the_rest_for_development():
    split = make_split(KEYS, official={"test": range(61)})
    assert split.development == 500
    assert split.test == tuple(range(61))


def test_lists_without_a_test_list_get_a_random_one_beside_the_validation_list():
    split = make_split(KEYS, official={"train": range(500), "validation": range(500, 561)})
    assert split.test_split == "random"
    assert len(split.test) == 100
    assert max(split.test) < 500
    assert split.validation == tuple(range(500, 561))


def test_random_ignores_published_lists():
    official = {"trainval": range(300), "test": range(300, 561)}
    assert make_split(KEYS, official=official, test_split="random") == make_split(KEYS, official={})


@pytest.mark.parametrize("count", [2, 3, 5, 9, 10, 11, 20])
def test_small_sets_still_have_a_photo_to_validate_with(count):
    split = make_split(KEYS[:count], official={})
    assert split.train
    assert split.validation
    assert len({*split.train, *split.validation, *split.test}) == count


@pytest.mark.parametrize(("count", "ratio"), [(0, 1), (1, 1), (20, 0.05)])
def test_too_few_photos_are_refused_with_the_numbers(count, ratio):
    remedy = "add photos, or raise --data-ratio" if ratio < 1 else "add photos"
    with pytest.raises(DataError, match=f"to validate with: {remedy}$"):
        make_split(KEYS[:count], official={}, data_ratio=ratio)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("strata", [None, [0, 1]])
def test_photos_that_are_only_scored_may_be_as_few_as_they_like(count, strata):
    split = make_split(KEYS[:count], official={}, strata=strata and strata[:count], for_training=False)
    assert len({*split.train, *split.validation, *split.test}) == count


@pytest.fixture
def pairs(tmp_path):
    for index in range(4):
        Image.new("RGB", (3, 3), (index, 0, 0)).save(tmp_path / f"{index}.png")
        Image.new("L", (3, 3), index % 2).save(tmp_path / f"{index}_mask.png")

    def build(border=None, order=range(4)):
        return FileDataset(
            "toy",
            tmp_path,
            [tmp_path / f"{index}.png" for index in order],
            masks=[tmp_path / f"{index}_mask.png" for index in order],
            classes=("background", "foreground"),
            border=border,
        )

    return build


def test_the_hash_covers_test_photos_masks_and_border_and_nothing_else(pairs, tmp_path):
    before = hash_of_test(pairs(), (0, 1))
    assert hash_of_test(pairs(), (1, 0)) == before
    assert hash_of_test(pairs(order=(3, 1, 2, 0)), (3, 1)) == before  # the same photos at other places
    assert hash_of_test(pairs("pet"), (0, 1)) != before
    assert hash_of_test(pairs(), (0, 2)) != before
    Image.new("RGB", (3, 3), (9, 9, 9)).save(tmp_path / "3.png")  # no test photo
    assert hash_of_test(pairs(), (0, 1)) == before
    Image.new("L", (3, 3), 1).save(tmp_path / "0_mask.png")
    changed = hash_of_test(pairs(), (0, 1))
    assert changed != before
    Image.new("RGB", (3, 3), (9, 9, 9)).save(tmp_path / "1.png")
    assert hash_of_test(pairs(), (0, 1)) not in (before, changed)


def test_generated_sets_are_hashed_by_their_masks():
    class Generated(Dataset):
        value = 0

        def mask(self, index):
            return np.full((2, 2), self.value, np.uint8)

    dataset = Generated("toy", ["a", "b"], classes=("background", "foreground"))
    before = hash_of_test(dataset, (0,))
    dataset.value = 1
    assert hash_of_test(dataset, (0,)) != before


def test_split_json_names_every_photo(pairs):
    dataset = pairs("pet")
    split = make_split(dataset.keys, official={})
    content = split_json(dataset, split, "ab12")
    assert sorted(content["train"] + content["validation"] + content["test"]) == sorted(dataset.keys)
    assert content["test_hash"] == "ab12"
    assert (content["border"], content["split_seed"], content["test_split"]) == ("pet", 0, "random")


SHARES = (0.05, 0.15, 0.2, 0.3, 0.5, 0.85)


@pytest.mark.parametrize("share", SHARES)
def test_any_share_of_all_photos_can_test_whatever_the_lists_say(share):
    split = make_split(KEYS, official={"train": range(500), "test": range(500, 561)}, test_split=share)
    assert len(split.test) == int(share * 561) and split.test_split == share
    assert split.development == 561 - len(split.test)


def test_the_test_photos_of_a_smaller_share_are_among_those_of_a_larger_one():
    splits = [make_split(KEYS, official={}, test_split=share) for share in SHARES]
    assert all(set(small.test) < set(large.test) for small, large in pairwise(splits))
    usual = make_split(KEYS, official={}, test_split="random")
    same = make_split(KEYS, official={}, test_split=0.2, validation=0.1)
    assert (same.train, same.validation, same.test) == (usual.train, usual.validation, usual.test)


@pytest.mark.parametrize("strata", [None, [index % 7 for index in range(561)]])
@pytest.mark.parametrize("ratio", [0.5, 1.0])
@pytest.mark.parametrize("share", SHARES)
def test_any_share_of_the_development_photos_in_use_can_validate(strata, ratio, share):
    split = make_split(KEYS, official={}, strata=strata, data_ratio=ratio, validation=share)
    used = len(split.train) + len(split.validation)
    assert abs(len(split.validation) - share * used) <= (1 if strata is None else 5)
    assert split.test == make_split(KEYS, official={}, strata=strata).test
    assert used == int(ratio * split.development)


def test_what_a_share_validates_of_some_photos_it_also_validates_of_more():
    for strata in (None, [index % 7 for index in range(561)]):
        splits = [make_split(KEYS, official={}, strata=strata, data_ratio=r, validation=0.3) for r in RATIOS[1:]]
        for small, large in pairwise(splits):
            assert set(small.train) <= set(large.train) and set(small.validation) <= set(large.validation)
        counted = make_split(KEYS, official={}, strata=strata, max_images=100, validation=0.3)
        assert len(counted.train) + len(counted.validation) == 100


def test_a_share_puts_published_training_and_validation_lists_together():
    official = {"train": range(100), "validation": range(100, 150), "test": range(150, 300)}
    split = make_split(KEYS, official=official, validation=0.3)
    assert len(split.validation) == 45 and len(split.train) == 105 and split.test == tuple(range(150, 300))
    assert not set(split.validation) <= set(range(100, 150))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"test_split": 0.99, "data_ratio": 0.1}, "add photos, or raise --data-ratio, or lower --test-split"),
        ({"group_by": "^.", "validation": 0.9}, "leave 0 to train .*: add photos, or lower --validation$"),
        (
            {"group_by": "/[01]/", "validation": 0.9, "data_ratio": 0.9},
            "in 1 group .*: add photos of other groups, or take a --group-by that makes more$",
        ),
    ],
)
def test_shares_that_leave_too_few_photos_are_refused_with_what_to_change(asked, says):
    with pytest.raises(DataError, match=says):
        make_split([f"{index % 3}/{index % 2}/{index}" for index in range(40)], official={}, **asked)


class Toy(Dataset):
    def __init__(self, keys) -> None:
        super().__init__("toy", list(keys))


def recorded(tmp_path, **changed):
    keys = [f"{number}.jpg" for number in range(40)]
    split = make_split(keys, official={}, data_ratio=0.5, seed=3, fold=(1, 4))
    path = tmp_path / "split.json"
    path.write_text(json.dumps(split_json(Toy(keys), split, "ab12") | changed))
    return keys, split, path


def test_a_recorded_split_is_read_as_it_was_whatever_came_since(tmp_path):
    keys, split, path = recorded(tmp_path)
    assert stored_split(Toy(keys), path) == split
    more = Toy(["new.jpg", *keys])
    found = stored_split(more, path)
    assert [more.keys[index] for index in found.test] == [keys[index] for index in split.test]
    assert 0 not in (*found.train, *found.validation, *found.test)


def test_a_split_of_shares_is_recorded(tmp_path):
    keys = [f"{number}.jpg" for number in range(40)]
    split = make_split(keys, official={}, test_split=0.3, validation=0.25)
    content = split_json(Toy(keys), split, "ab12")
    (tmp_path / "split.json").write_text(json.dumps(content))
    assert (content["test_split"], content["validation_share"]) == (0.3, 0.25)
    assert stored_split(Toy(keys), tmp_path / "split.json") == split
    del content["validation_share"]  # of an older version, which had none
    (tmp_path / "split.json").write_text(json.dumps(content))
    assert stored_split(Toy(keys), tmp_path / "split.json").validation_share is None


def test_photos_that_are_gone_are_named(tmp_path, caplog):
    keys, split, path = recorded(tmp_path)
    lost = keys[split.train[0]]
    found = stored_split(Toy([key for key in keys if key != lost]), path)
    assert len(found.train) == len(split.train) - 1 and f"such as {lost}" in caplog.text
    lost = keys[split.test[0]]
    with pytest.raises(DataError, match=f"1 of 8 test photos of .* are not in toy, such as {lost}"):
        stored_split(Toy([key for key in keys if key != lost]), path)


@pytest.mark.parametrize(
    "changed", [{"test": 3}, {"development": None}, {"fold": 5}, {"test_split": 1.5}, {"validation_share": "half"}]
)
def test_a_damaged_record_is_refused(tmp_path, changed):
    keys, _, path = recorded(tmp_path, **changed)
    with pytest.raises(DataError, match=r"split\.json cannot be read .*: restore it, or remove it"):
        stored_split(Toy(keys), path)


CLASSES = [3] * 7 + [index % 3 for index in range(540)] + [4] * 2 + [5] * 12


def shares(indices):
    return np.bincount([CLASSES[index] for index in indices], minlength=6)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_parts_hold_classes_in_proportion_where_they_are_known(ratio):
    split = make_split(KEYS, official={}, strata=CLASSES, data_ratio=ratio)
    assert np.ptp(shares(split.train)[:3]) <= 2 and np.ptp(shares(split.test)[:3]) <= 2
    assert np.ptp(shares(split.validation)[:3]) <= 1
    assert len(split.test) == 112 and abs(len(split.validation) - len(split.train) / 9) < 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("validation", [None, 0.3, 0.85])
def test_a_class_of_a_few_photos_is_among_those_to_train_with(seed, validation):
    split = make_split(KEYS, official={}, strata=CLASSES, seed=seed, validation=validation)
    assert (shares(split.train) > 0).all()


def test_the_classes_of_a_smaller_ratio_are_among_those_of_a_larger_one():
    splits = [make_split(KEYS, official={}, strata=CLASSES, data_ratio=ratio) for ratio in RATIOS[1:]]
    for small, large in pairwise(splits):
        assert set(small.train) <= set(large.train) and set(small.validation) <= set(large.validation)
        assert small.test == large.test


def test_two_photos_a_class_still_train_and_validate():
    split = make_split(KEYS[:8], official={"test": [0]}, strata=[0, 0, 1, 1, 0, 1, 0, 1])
    assert split.validation and set(split.train) | set(split.validation) == set(range(1, 8))


def test_a_class_that_was_renamed_changes_the_hash_of_the_labels():
    def photos(*label_names):
        return Dataset("photos", KEYS[:4], labels=np.array([0, 1, 0, 1]), label_names=label_names)

    assert labelled_test_hash(photos("cat", "dog"), [1, 2]) == labelled_test_hash(photos("cat", "dog"), [2, 1])
    assert labelled_test_hash(photos("cat", "dog"), [1, 2]) != labelled_test_hash(photos("cat", "cow"), [1, 2])


def test_folds_share_out_the_development_photos_and_leave_the_test_photos_alone():
    plain = make_split(KEYS, official={})
    folds = [make_split(KEYS, official={}, fold=(part, 5)) for part in range(1, 6)]
    validated = [index for split in folds for index in split.validation]
    assert sorted(validated) == sorted({*plain.train, *plain.validation})
    assert all(split.test == plain.test for split in folds)
    assert all(set(split.train) == set(validated) - set(split.validation) for split in folds)
    assert {len(split.validation) for split in folds} <= {89, 90}
    assert folds[1].line.endswith("(fold 2 of 5)")


def test_folds_hold_classes_in_proportion():
    strata = [index % 7 if index % 2 else 7 for index in range(len(KEYS))]
    folds = [make_split(KEYS, official={}, strata=strata, fold=(part, 5)) for part in range(1, 6)]
    counts = [[sum(strata[index] == kind for index in split.validation) for kind in range(8)] for split in folds]
    assert all(max(column) - min(column) <= 1 for column in zip(*counts, strict=True))
    assert {len(split.validation) for split in folds} <= {folds[0].development // 5, folds[0].development // 5 + 1}
    assert len({index for split in folds for index in split.validation}) == folds[0].development


def test_folds_put_published_training_and_validation_lists_together():
    official = {"train": range(100), "validation": range(100, 150), "test": range(150, 300)}
    folds = [make_split(KEYS, official=official, fold=(part, 3)) for part in (1, 2, 3)]
    assert sorted(index for split in folds for index in split.validation) == list(range(150))
    assert all(split.test == tuple(range(150, 300)) for split in folds)


GROUPED = [f"site{index % 23:02d}/{index}.jpg" for index in range(300)]


@pytest.mark.parametrize("pattern", [r"^site\d+", r"(\d+)/", r"^(s)ite(\d+)"])
@pytest.mark.parametrize("options", [{}, {"fold": (2, 4)}, {"data_ratio": 0.5}])
def test_grouped_photos_stay_in_one_part(pattern, options):
    split = make_split(GROUPED, official={}, group_by=pattern, **options)
    sites = [{GROUPED[index][:6] for index in part} for part in (split.train, split.validation, split.test)]
    assert all(sites) and sum(map(len, sites)) == len(set.union(*sites))
    assert 60 <= len(split.test) <= 60 + 14
    assert "23 groups stay together" in split.line


@pytest.mark.parametrize("seed", range(8))
def test_photos_that_are_the_same_by_way_of_others_stay_together(seed):
    same = {0, 3, 5, 7, 9}
    split = make_split(KEYS, official={}, twins=[(0, 5), (3, 5), (7, 9), (9, 3)], seed=seed)
    parts = [same & {*part} for part in (split.train, split.validation, split.test)]
    assert sorted(map(len, parts)) == [0, 0, 5]


def test_groups_come_before_classes():
    strata = [index % 5 for index in range(300)]
    with_classes, plain = (make_split(GROUPED, official={}, group_by="^site..", strata=one) for one in (strata, None))
    assert with_classes == plain


def test_smaller_ratios_of_groups_are_nested_too():
    small, large = (make_split(GROUPED, official={}, group_by="^site..", data_ratio=ratio) for ratio in (0.3, 0.8))
    assert small.test == large.test
    assert {*small.train, *small.validation} <= {*large.train, *large.validation}


def test_each_photo_as_its_own_group_is_no_grouping():
    for fold in ((1, 5), (5, 5)):
        grouped, plain = (make_split(KEYS, official={}, group_by=pattern, fold=fold) for pattern in (".*", None))
        assert (grouped.train, grouped.validation, grouped.test) == (plain.train, plain.validation, plain.test)


@pytest.mark.parametrize("seed", range(8))
def test_groups_of_very_different_sizes_still_leave_a_tenth_to_validate_with(seed):
    keys = [f"breed{min(index // 70, 3 + index % 20)}/{index}.jpg" for index in range(400)]
    split = make_split(keys, official={}, group_by="^[^/]+", seed=seed)
    assert split.train and len(split.validation) >= split.development / 10
    folds = [make_split(keys, official={}, group_by="^[^/]+", seed=seed, fold=(part, 3)) for part in (1, 2, 3)]
    assert sum(len(fold.validation) for fold in folds) == split.development
    assert min(len(fold.validation) for fold in folds) >= split.development / 6


@pytest.mark.parametrize(
    ("pattern", "official", "message"),
    [
        ("plot", {}, "finds nothing in 300 of 300 paths, such as site00/0.jpg"),
        ("^site..", {"trainval": range(250), "test": range(250, 300)}, r"the group 'site\d\d' into train and test"),
        (
            "^site..",
            {"train": range(9), "validation": range(9, 30), "test": range(30, 32)},
            r"the group 'site\d\d' into train and validation",
        ),
        ("^site", {}, "in 0 groups .* leave 0 to train"),
    ],
)
def test_groups_that_cannot_stay_together_are_refused(pattern, official, message):
    with pytest.raises(DataError, match=message):
        make_split(GROUPED, official=official, group_by=pattern)


def test_one_validation_photo_is_one():
    (found,) = make_split(KEYS[:12], official={"test": []}).doubts("a threshold", "it stays 0.5")
    assert found == "1 validation photo is too few to choose a threshold by, so it stays 0.5: add photos"


@pytest.mark.parametrize(("images", "validation"), [(190, 19), (200, 20)])
def test_few_validation_photos_are_no_ground_to_choose_by(images, validation):
    split = make_split(KEYS[:images], official={"test": []})
    assert len(split.validation) == validation and split.can_choose == (validation == 20)
    found = split.doubts("the best epoch", "the last one is kept")
    few = "19 validation photos are too few to choose the best epoch by, so the last one is kept: add photos"
    assert (not found) if split.can_choose else found[0].startswith(few)


def test_whoever_chose_a_share_to_validate_with_is_not_sent_to_a_fold():
    split = make_split(KEYS[:100], official={"test": []}, validation=0.05)
    (found,) = split.doubts("the best epoch", "the last one is kept")
    assert found.endswith("add photos, or train with a larger --validation, which validates on more of them")
