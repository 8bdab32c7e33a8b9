"""Which mask goes where, and what is refused before anything is written."""

from __future__ import annotations

import os

import pytest

from simclrseg.errors import DataError, ImageError, UsageError
from simclrseg.inference import OUTPUTS
from simclrseg.inference.inputs import find_images, names_one_image
from simclrseg.inference.jobs import plan_outputs
from simclrseg.inference.predictor import Predictor
from tests.inference.test_outputs import BINARY
from tests.no_files import REASONS, put_no_files


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """photos/{a.jpg, sub/b.png, sub/deep/c.webp, notes.txt}, as the working folder's only content."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "sub/b.png", "sub/deep/c.webp", "notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


MASK = {"mask": ".png"}


def plan(inputs, output=None, endings=MASK, **options):
    return plan_outputs(find_images(inputs, output), endings, output, one=names_one_image(inputs), **options)


def planned(*arguments, **options) -> list[tuple[str, str]]:
    """Photo and file of every output."""
    return [
        (str(job.image), "-" if target is None else target.as_posix())
        for job in plan(*arguments, **options)
        for target in job.targets.values()
    ]


def test_one_photo_goes_to_the_named_file(photos):
    assert planned(["photos/a.jpg"], "mask.png") == [("photos/a.jpg", "mask.png")]


def test_one_photo_goes_into_a_folder_when_the_output_is_no_file_name(photos):
    assert planned(["photos/a.jpg"], "masks") == [("photos/a.jpg", "masks/a.png")]
    assert planned(["photos/a.jpg"], "mask.png/") == [("photos/a.jpg", "mask.png/a.png")]


def test_an_existing_folder_is_a_folder_whatever_its_name(photos, tmp_path):
    (tmp_path / "out.png").mkdir()
    assert planned(["photos/a.jpg"], "out.png") == [("photos/a.jpg", "out.png/a.png")]


def test_many_photos_go_into_a_folder(photos):
    inputs = ["photos/a.jpg", "photos/sub/b.png"]
    assert planned(inputs, "masks") == [("photos/a.jpg", "masks/a.png"), ("photos/sub/b.png", "masks/b.png")]


def test_a_folder_is_mirrored_recursively(photos):
    assert planned(["photos"], "masks") == [
        ("photos/a.jpg", "masks/a.png"),
        ("photos/sub/b.png", "masks/sub/b.png"),
        ("photos/sub/deep/c.webp", "masks/sub/deep/c.png"),
    ]


def test_without_an_output_masks_lie_beside_their_photos_and_are_no_photos_next_time(photos):
    first = planned(["photos"])
    assert first[0] == ("photos/a.jpg", "photos/a.mask.png")
    (photos / "a.mask.png").touch()
    assert planned(["photos"], overwrite=True) == first


def test_masks_below_the_folder_of_photos_are_no_photos_next_time(photos):
    first = planned(["photos"], "photos/masks")
    (photos / "masks").mkdir()
    (photos / "masks" / "a.png").touch()
    assert planned(["photos"], "photos/masks", overwrite=True) == first


def test_a_photo_given_twice_is_done_once(photos):
    assert planned(["photos/a.jpg", "./photos/a.jpg"], "masks") == [("photos/a.jpg", "masks/a.png")]


def test_links_to_one_photo_are_photos_of_their_own_names(photos):
    os.symlink(photos / "a.jpg", photos / "sub" / "again.jpg")
    masks = [mask for _, mask in planned(["photos", "photos/sub/again.jpg"], "masks")]
    assert sorted(masks) == ["masks/a.png", "masks/sub/again.png", "masks/sub/b.png", "masks/sub/deep/c.png"]


def test_a_link_of_the_photo_s_own_name_is_no_second_photo(photos, tmp_path):
    (tmp_path / "chosen").mkdir()
    os.symlink(photos / "a.jpg", tmp_path / "chosen" / "a.jpg")
    assert planned(["photos", "chosen"], "masks") == planned(["photos"], "masks")


def test_a_folder_in_the_place_of_a_mask_is_named(photos, tmp_path):
    (tmp_path / "masks" / "a.png").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"masks/a\.png is a folder: name another output"):
        plan(["photos/a.jpg", "photos/sub/b.png"], "masks", overwrite=True)


def test_nothing_is_created_by_planning(photos, tmp_path):
    plan(["photos"], "masks")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_existing_mask_is_refused_with_the_words_that_help(photos, tmp_path):
    (tmp_path / "mask.png").touch()
    with pytest.raises(UsageError, match=r"mask\.png exists: nothing is replaced without --overwrite"):
        plan(["photos/a.jpg"], "mask.png")
    assert planned(["photos/a.jpg"], "mask.png", overwrite=True)


def test_several_existing_masks_are_counted(photos, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"a\.png and 1 more exist: .*--overwrite"):
        plan(["photos/a.jpg", "photos/sub/b.png"], str(tmp_path))


def test_an_input_is_never_an_output_not_even_with_overwrite(photos):
    with pytest.raises(UsageError, match="is itself an input"):
        plan(["photos/sub/b.png"], "photos/sub/b.png", overwrite=True)
    with pytest.raises(UsageError, match="is itself an input"):
        plan(["photos/a.jpg", "photos/sub/b.png"], "photos/sub", overwrite=True)


def test_an_input_reached_through_a_link_is_recognised(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos / "sub")
    with pytest.raises(UsageError, match="is itself an input"):
        plan(["photos/sub/b.png"], "link/b.png", overwrite=True)


def test_the_folder_of_the_photos_is_no_folder_for_their_masks(photos):
    with pytest.raises(UsageError, match="the folder of the photos itself"):
        plan(["photos"], "photos")


def test_photos_of_one_name_keep_their_suffix_in_those_of_their_masks(photos):
    (photos / "a.png").touch()
    expected = ["masks/a.jpg.png", "masks/a.png.png", "masks/sub/b.png", "masks/sub/deep/c.png"]
    assert [target for _, target in planned(["photos"], "masks")] == expected
    beside = [target for _, target in planned(["photos"])]
    assert beside[:2] == ["photos/a.jpg.mask.png", "photos/a.png.mask.png"]
    for target in beside:
        (photos.parent / target).touch()
    assert len(planned(["photos"], overwrite=True)) == 4


def test_two_photos_with_one_mask_are_both_named(photos):
    (photos / "sub" / "a.jpg").touch()
    message = r"photos/a\.jpg and photos/sub/a\.jpg would both be written to masks/a\.jpg\.png"
    with pytest.raises(UsageError, match=message):
        plan(["photos/a.jpg", "photos/sub/a.jpg"], "masks")


def test_photos_that_cannot_be_read_are_told_apart_from_other_files(photos, caplog):
    for name in ("b.HEIC", "c.dng", "d.mov", "sub/e.heic"):
        (photos / name).touch()
    put_no_files(photos)
    unread = {}
    with caplog.at_level("INFO", logger="simclrseg"):
        find_images(["photos"], unread=unread)
    assert sorted(path.name for path in unread) == sorted(["b.HEIC", "c.dng", "e.heic", *REASONS])
    assert "photos: photos that cannot be read: 2 .heic, 1 .dng (HEIC is not supported: " in caplog.text
    assert "photos: no photos, and left out: 1 .mov, 1 .txt" in caplog.text


def test_a_locked_folder_is_among_what_cannot_be_read(photos, monkeypatch):
    scan = os.scandir

    def locked(path):
        if path.name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", locked)
    unread = {}
    assert len(find_images(["photos"], unread=unread)) == 2
    assert {path.name: reason for path, reason in unread.items()} == {"deep": "Permission denied"}


def test_names_as_long_as_file_systems_take_are_met_with_a_shorter_ending_or_refused(photos, tmp_path):
    (photos / "a.jpg").rename(photos / f"{'x' * 251}.jpg")
    assert len(planned(["photos"], "masks")[-1][1]) == len("masks/") + 255
    with pytest.raises(UsageError, match="the name of its result would have 260 bytes, and 255 are possible"):
        plan(["photos"])
    (photos / f"{'x' * 251}.jpg").rename(photos / f"{'x' * 246}.jpg")
    assert len(os.path.basename(planned(["photos"])[-1][1])) == 255
    (photos / f"{'x' * 246}.jpg").rename(photos / f"{'x' * 247}.jpg")
    with pytest.raises(UsageError, match="would have 256 bytes"):
        plan(["photos"])


def test_a_missing_input_is_named(photos):
    with pytest.raises(DataError, match=r"photos/none\.jpg: no such file or folder"):
        plan(["photos/a.jpg", "photos/none.jpg"], "masks")


FOUND = ["photos/a.jpg", "photos/sub/b.png", "photos/sub/deep/c.webp"]


@pytest.mark.parametrize(
    ("given", "found", "left_out"),
    [
        ("photos", FOUND, 5),
        ("photos/*", FOUND[:1], 5),
        ("photos/**", FOUND, 5),
        ("photos/**/*.jpg", FOUND[:1], 5),
        ("**/*.png", FOUND[1:2], 0),
    ],
)
def test_what_is_no_file_is_left_out_and_links_lead_in_no_circles(photos, caplog, given, found, left_out):
    put_no_files(photos)
    assert [str(photo) for photo in find_images([given])] == found
    first = "the first is photos/circle.jpg: it is a link back to itself"
    assert caplog.messages == [f"{given}: unreadable and left out: {left_out}; {first}"][:left_out]


def test_what_is_named_and_no_file_is_a_photo_that_fails_when_its_turn_comes(photos):
    put_no_files(photos)
    names = [f"photos/{name}" for name in ("a.jpg", *REASONS)]
    assert [photo for photo, _ in planned(names, "masks")] == names
    assert planned(["photos/gone.jpg"], "mask.png") == [("photos/gone.jpg", "mask.png")]


def test_a_pipe_that_is_named_gets_the_way_that_works(photos):
    put_no_files(photos)
    (pipe,) = find_images(["photos/pipe.jpg"])
    with pytest.raises(ImageError, match=r"photos/pipe\.jpg: it is a pipe, .*; pass - to have a photo read from stdin"):
        Predictor(model=None).read(pipe)


def test_an_output_in_a_circle_of_links_is_no_traceback(photos):
    put_no_files(photos)
    assert planned(["photos/a.jpg"], "photos/circle.jpg/") == [("photos/a.jpg", "photos/circle.jpg/a.png")]


def test_a_folder_without_photos_is_refused(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no photo"):
        plan(["empty"], "masks")


@pytest.mark.parametrize("inputs", [["photos"], ["photos/a.jpg", "photos/sub/b.png"]])
def test_one_file_cannot_take_several_masks(photos, inputs):
    with pytest.raises(UsageError, match="name a folder"):
        plan(inputs, "mask.png")


@pytest.mark.parametrize(
    ("file", "remedy"),
    [("mask.jpg", r"mask\.png$"), ("m.json", r"m\.png, or pass --as json$"), ("m.npy", r"m\.png$")],
)
def test_a_mask_is_not_written_as_anything_else_and_nothing_is_advised_that_the_model_does_not_write(
    photos, file, remedy
):
    of_two = {kind: made.ending(BINARY) for kind, made in OUTPUTS.items()}
    with pytest.raises(UsageError, match=rf"mask is written as PNG; name it {remedy}"):
        plan(["photos/a.jpg"], file, others=of_two)


def test_a_file_in_the_way_of_the_output_folder_is_named(photos, tmp_path):
    (tmp_path / "masks").touch()
    with pytest.raises(UsageError, match="masks is a file"):
        plan(["photos"], "masks")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable_is_named(photos, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(UsageError, match="locked is not writable"):
        plan(["photos"], "locked/masks")


def test_no_input_is_a_usage_error():
    with pytest.raises(UsageError, match="no photo"):
        plan([], "masks")


BOTH = {"mask": ".png", "overlay": ".png", "json": ".json"}


def test_several_outputs_of_a_photo_are_told_apart_by_name(photos):
    names = ["masks/a.mask.png", "masks/a.overlay.png", "masks/a.json"]
    assert [target for _, target in planned(["photos/a.jpg"], "masks", BOTH)] == names
    assert [target for _, target in planned(["photos/a.jpg"], None, BOTH)] == [
        name.replace("masks", "photos") for name in names
    ]


def test_several_outputs_do_not_fit_in_one_file(photos):
    with pytest.raises(UsageError, match="there are several outputs: name a folder"):
        plan(["photos/a.jpg"], "mask.png", BOTH)


def test_outputs_of_every_kind_beside_the_photos_are_no_photos_next_time(photos):
    for name in ("a.mask.png", "a.overlay.png", "a.cutout.png", "a.probability.png", "a.indexed.png"):
        (photos / name).touch()
    assert [str(photo) for photo in find_images(["photos"])] == [
        "photos/a.jpg",
        "photos/sub/b.png",
        "photos/sub/deep/c.webp",
    ]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("photos/**/*.*", ["a.jpg", "sub/b.png", "sub/deep/c.webp"]),
        ("photos/*/*.png", ["sub/b.png"]),
        ("*/[ab].jpg", ["photos/a.jpg"]),
    ],
)
def test_a_pattern_that_no_shell_expanded_finds_photos_and_is_mirrored(photos, pattern, found):
    assert [photo.relative.as_posix() for photo in find_images([pattern])] == found


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos):
    (photos / "a[1].jpg").touch()
    assert planned(["photos/a[1].jpg"], "m.png") == [("photos/a[1].jpg", "m.png")]


def test_a_pattern_without_photos_is_named(photos):
    with pytest.raises(DataError, match=r"photos/\*\.tif: no photo has such a name"):
        find_images(["photos/*.tif"])


def test_stdin_goes_to_stdout_or_to_a_file(photos):
    assert planned(["-"]) == [("-", "-")]
    assert planned(["-"], "mask.png") == [("-", "mask.png")]
    assert planned(["-"], "masks") == [("-", "masks/stdin.png")]
    assert planned(["photos/a.jpg"], "-") == [("photos/a.jpg", "-")]


@pytest.mark.parametrize(
    ("inputs", "output", "endings"), [(["photos"], "-", MASK), (["-"], None, BOTH), (["photos/a.jpg", "-"], "-", MASK)]
)
def test_stdout_takes_one_output_of_one_photo(photos, inputs, output, endings):
    with pytest.raises(UsageError, match="stdout takes one output of one photo"):
        plan(inputs, output, endings)


def test_what_exists_can_be_skipped_so_that_a_run_can_be_resumed(photos, tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "b.png").touch()
    jobs = plan(["photos/sub/b.png", "photos/a.jpg"], "masks", skip_existing=True)
    assert [list(job.targets) for job in jobs] == [[], ["mask"]]


def test_a_file_for_all_photos_that_is_skipped_is_said_to_hold_what_it_holds(photos, tmp_path, caplog):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "annotations.coco.json").touch()
    jobs = plan(["photos/sub/b.png", "photos/a.jpg"], "labels", {"coco": ".json"}, skip_existing=True)
    assert [list(job.targets) for job in jobs] == [[], []]
    (line,) = [record.getMessage() for record in caplog.records]  # a photo that came later would be in no file
    assert line.startswith("labels/annotations.coco.json exists and stays as it is, whichever photos it holds: --over")


def test_of_several_outputs_only_those_that_are_missing_are_written(photos, tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.overlay.png").touch()
    (job,) = plan(["photos/a.jpg"], "masks", BOTH, skip_existing=True)
    assert list(job.targets) == ["mask", "json"]
