"""predict as a whole, with models that can be checked by hand."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image

from simclrseg.cli.app import main
from simclrseg.commands.predict import predict
from simclrseg.config.predict import PredictConfig
from simclrseg.errors import ModelFileError, OutOfMemory, OutputError, Terminated, UsageError
from simclrseg.images.decode import image_shape, read_picture
from simclrseg.images.opening import turn_back
from simclrseg.inference.predictor import Predictor
from simclrseg.inference.session import Model, open_model
from simclrseg.system import files
from tests.images.odd import UNREADABLE, orientation_exif


def run(model: Path, inputs, output=None, *, method=None, hardware=None, on_file=lambda done, total: None, **console):
    return predict(
        PredictConfig.model_validate(
            {
                "input": {"inputs": [str(one) for one in inputs], "model": str(model)},
                "method": method or {},
                "hardware": {"device": "cpu", **(hardware or {})},
                "console": {"output": None if output is None else str(output), **console},
            }
        ),
        on_file=on_file,
    )


def save(path: Path, height: int = 30, width: int = 50, **options) -> Path:
    """A photo that is dark on the left and bright on the right."""
    pixels = np.full((height, width, 3), 20, np.uint8)
    pixels[:, width // 2 :] = 230
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def read(path: Path | str) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("method", [{}, {"tile": 512}])
def test_every_odd_picture_gets_a_mask_of_its_size_or_a_reason(make_model, tmp_path, real_data, method):
    result = run(make_model(), [real_data / "odd_images"], tmp_path / "masks", method=method)
    assert {Path(row["image"]).name for row in result.failed} == set(UNREADABLE)
    assert all(UNREADABLE[Path(row["image"]).name] in row["reason"] for row in result.failed)
    assert all("\n" not in row["reason"] for row in result.failed)
    assert len(result.done) == 39 - len(UNREADABLE)
    for row in result.done:
        mask = read(row["mask"])
        assert mask.shape == image_shape(row["image"])
        assert mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 255}
    assert len(list((tmp_path / "masks").iterdir())) == len(result.done)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_upright_or_as_the_photo_is_stored(make_model, tmp_path, orientation):
    source = save(tmp_path / "a.png", exif=orientation_exif(orientation))
    stored = np.array(Image.open(source))[:, :, 0] > 128
    model = make_model(image_size=64)
    kinds = ["mask", "probability", "json", "cutout"]
    upright, kept = (
        run(model, [source], tmp_path / str(keep), keep_orientation=keep, outputs=kinds).done[0]
        for keep in (False, True)
    )
    assert np.mean((read(kept["mask"]) > 0) != stored) < 0.1
    assert np.mean((read(kept["cutout"])[:, :, 3] > 127) != (read(kept["mask"]) > 0)) < 0.05  # but for a soft edge
    assert np.mean((read(kept["cutout"])[:, :, 0] > 128) != stored) < 0.1
    np.testing.assert_array_equal(turn_back(read(upright["mask"]), orientation), read(kept["mask"]))
    np.testing.assert_array_equal(turn_back(read(upright["probability"]), orientation), read(kept["probability"]))
    assert json.loads(Path(kept["json"]).read_text())["width"] == 50
    assert read(upright["mask"]).shape == read_picture(source).pixels.shape[:2]


def test_a_folder_is_done_with_the_rest_when_a_photo_is_bad_and_says_so(make_model, tmp_path, caplog):
    for name in ("a.jpg", "sub/b.png", "c.webp"):
        save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no photo")
    seen = []
    with caplog.at_level("INFO", logger="simclrseg"):
        result = run(make_model(), [tmp_path / "photos"], tmp_path / "out", on_file=lambda *count: seen.append(count))
    assert [Path(row["image"]).name for row in result.done] == ["a.jpg", "c.webp", "b.png"]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.png", "b.png", "c.png"]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert "bad.jpg: not a picture" in caplog.text
    assert caplog.messages[-1] == "3 done, 1 failed, 0 skipped"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("images/a.jpg", "images/b.jpg", "masks/a.png", "masks/b_mask.png"), "2 of 4 pictures lie in "),
        (("a.jpg", "b.jpg", "GT/a.png"), "1 of 3 pictures lie in a folder called GT"),
        (("train/images/a.jpg", "val/images/b.jpg", "train/masks/a.png", "val/masks/b.png"), "2 of 4 pictures lie "),
        (("images/s0/a.jpg", "masks/s0/a.png"), "1 of 2 pictures lie in a folder called masks"),
        (("a.jpg", "labels/c.png"), ""),
        (("cats/a.jpg", "dogs/a.jpg"), ""),
        (("masks/a.png", "masks/b.png"), ""),
    ],
)
def test_masks_that_lie_beside_photos_are_pointed_out(make_model, tmp_path, caplog, names, told):
    for name in names:
        save(tmp_path / "photos" / name)
    result = run(make_model(), [tmp_path / "photos"], tmp_path / "out")
    assert len(result.done) == len(names)
    assert told in caplog.text and bool(told) == ("if they are masks" in caplog.text)


def test_photos_of_a_folder_that_cannot_be_read_end_the_command_with_1_and_are_counted(make_model, tmp_path, capsys):
    photos = tmp_path / "photos"
    save(photos / "a.jpg")
    for name in ("IMG_1.HEIC", "IMG_2.DNG", "IMG_3.MOV"):
        (photos / name).write_bytes(b"nothing")
    arguments = [str(photos), "-o", str(tmp_path / "out"), "--model", str(make_model()), "--device", "cpu", "--json"]
    with pytest.raises(SystemExit) as end:
        main(["predict", *arguments])
    out, err = capsys.readouterr()
    assert end.value.code == 1
    result = json.loads(out)
    assert (result["photos"], len(result["done"]), len(result["failed"])) == (3, 1, 2)
    assert "2 of 3 photos failed" in err


@pytest.mark.parametrize("name", [b"Caf\xe9.jpg", b"x" * 236 + b".jpg", "ä".encode() * 120 + b".jpg"])
def test_names_in_other_bytes_and_long_ones_get_their_masks(make_model, tmp_path, capsys, name):
    os.mkdir(tmp_path / "photos")
    shutil.copy(save(tmp_path / "a.jpg"), os.fsencode(tmp_path / "photos") + b"/" + name)
    with pytest.raises(SystemExit, match="0"):
        main(["predict", str(tmp_path / "photos"), "-o", str(tmp_path / "out"), "--model", str(make_model()), "--json"])
    (row,) = json.loads(capsys.readouterr().out)["done"]
    assert os.listdir(os.fsencode(tmp_path / "out")) == [name[:-4] + b".png"]
    assert row["mask"].endswith(name[:-4].decode("utf-8", "surrogateescape").replace("\udce9", "\\udce9") + ".png")


def test_a_run_that_was_cut_short_is_resumed(make_model, tmp_path):
    for name in ("a.jpg", "b.png", "c.webp"):
        save(tmp_path / "photos" / name)
    model = make_model()
    first = run(model, [tmp_path / "photos"], tmp_path / "out")
    Path(first.done[1]["mask"]).unlink()
    Path(first.done[0]["mask"]).write_bytes(b"precious")
    second = run(model, [tmp_path / "photos"], tmp_path / "out", skip_existing=True)
    assert [Path(row["image"]).name for row in second.done] == ["b.png"]
    assert [Path(row["image"]).name for row in second.skipped] == ["a.jpg", "c.webp"]
    assert Path(first.done[0]["mask"]).read_bytes() == b"precious"


def test_the_number_of_workers_changes_nothing(make_model, tmp_path):
    for number in range(6):
        save(tmp_path / "photos" / f"{number}.png", 20 + number, 40)
    one, four = (
        run(make_model(), [tmp_path / "photos"], tmp_path / str(workers), hardware={"workers": workers})
        for workers in (1, 4)
    )
    assert len(one.done) == 6
    for a, b in zip(one.done, four.done, strict=True):
        assert a["image"] == b["image"] and Path(a["mask"]).read_bytes() == Path(b["mask"]).read_bytes()


def test_a_full_disk_stops_in_one_line_and_leaves_whole_files_only(
    make_model,
    tmp_path,
    monkeypatch,
    caplog,
):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "photos" / name)
    replace = files.os.replace

    def full(source, target):
        if Path(target).name == "b.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    with caplog.at_level("INFO", logger="simclrseg"), pytest.raises(OutputError, match="No space left on device"):
        run(make_model(), [tmp_path / "photos"], tmp_path / "out", hardware={"workers": 1})
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"a.png", "c.png"}
    assert "--skip-existing goes on from there" in caplog.text


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Terminated(15)])
def test_who_stops_it_is_told_how_much_is_done(make_model, tmp_path, monkeypatch, caplog, stop):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "photos" / name)
    replace = files.os.replace

    def stopped(source, target):
        if Path(target).name == "b.png":
            raise stop
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", stopped)
    with caplog.at_level("INFO", logger="simclrseg"), pytest.raises(type(stop)):
        run(make_model(), [tmp_path / "photos"], tmp_path / "out", hardware={"workers": 1})
    told = re.search(r"stopped: (\d) of 3 done; --skip-existing goes on from there", caplog.text)
    assert told is not None
    assert 1 <= int(told[1]) <= len(list((tmp_path / "out").glob("*.png"))) < 3  # the last may end meanwhile


def test_nothing_is_created_where_no_photo_can_be_read(make_model, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    assert run(make_model(), [tmp_path / "bad.jpg"], tmp_path / "out" / "deep").done == []
    assert not (tmp_path / "out").exists()


def test_a_photo_of_other_bands_than_the_models_is_named(make_model, tmp_path):
    model = onnx.load(make_model())
    (entry,) = (entry for entry in model.metadata_props if entry.key == "simclrseg.bands")
    entry.value = '["nir", "red", "green"]'
    onnx.save(model, tmp_path / "bands.onnx")
    result = run(tmp_path / "bands.onnx", [save(tmp_path / "a.png")], tmp_path / "out")
    assert "a.png: not a TIFF" in result.failed[0]["reason"]
    with pytest.raises(UsageError, match="--as overlay shows red, green and blue"):
        run(tmp_path / "bands.onnx", [tmp_path / "a.png"], tmp_path / "out", outputs=["overlay"])


def test_stdin_to_stdout(make_model, tmp_path, monkeypatch):
    source = save(tmp_path / "a.png")
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(source.read_bytes())))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out))
    run(make_model(), ["-"])
    assert np.asarray(Image.open(out)).shape == (30, 50)


def test_a_memory_that_does_not_hold_a_batch_gets_photos_one_by_one_and_then_tiles(
    make_model,
    tmp_path,
    monkeypatch,
    caplog,
):
    whole = Model.run

    def small(self, batch):
        if batch.shape[0] * batch.shape[1] * batch.shape[2] > 128 * 128:
            raise MemoryError("Failed to allocate memory")
        return whole(self, batch)

    model = make_model(image_size=256)
    source = save(tmp_path / "a.png")
    expected = read(run(model, [source], tmp_path / "whole.png").done[0]["mask"])
    monkeypatch.setattr(Model, "run", small)
    found = read(run(model, [source], tmp_path / "tiles.png").done[0]["mask"])
    np.testing.assert_array_equal(found, expected)
    assert "256 x 256 pixels at once do not fit in memory: tiles of 128 are taken instead" in caplog.text
    monkeypatch.setattr(Model, "run", lambda self, batch: small(self, np.zeros((9, 999, 999))))
    with pytest.raises(OutOfMemory, match=r"^out of memory even for \d+ x \d+ pixels: free some memory, or"):
        run(model, [source], tmp_path / "none.png")


def test_a_classifier_that_does_not_fit_in_memory_takes_no_tiles_of_a_photo(make_classifier, tmp_path, monkeypatch):
    def full(self, batch):
        raise MemoryError("Failed to allocate memory")

    monkeypatch.setattr(Model, "run", full)
    model = open_model(make_classifier(), "cpu")
    large = replace(model, metadata=model.metadata.model_copy(update={"image_size": 256}))
    with pytest.raises(OutOfMemory, match=r"^out of memory even for 256 x 256 pixels: free some memory, or"):
        Predictor(large).classify([np.zeros((300, 300, 3), np.uint8)])


def test_a_photo_that_does_not_fit_in_memory_is_one_line(make_model, tmp_path, monkeypatch):
    def full(self, path):
        raise cv2.error("OpenCV: Failed to allocate 4000000000 bytes")

    monkeypatch.setattr(Predictor, "read", full)
    with pytest.raises(OutOfMemory, match=r"^out of memory with 1 at a time: free some memory$"):
        run(make_model(), [save(tmp_path / "a.png")], tmp_path / "mask.png")


def test_an_overlap_is_refused_where_nothing_is_tiled(make_model, tmp_path):
    with pytest.raises(UsageError, match=r"--overlap 0\.25 is of tiles, .* whole: pass --tile too, or leave it out$"):
        run(make_model(), [save(tmp_path / "a.png")], method={"overlap": 0.25})
    assert run(make_model(), [tmp_path / "a.png"], method={"overlap": 0.5}).done  # as if it were not given


def test_a_classifier_gives_labels_scores_and_a_table(make_classifier, tmp_path):
    for name, colour in [("r", (250, 10, 40)), ("b", (10, 30, 200))]:
        Image.new("RGB", (30, 20), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.jpg").write_bytes(b"")
    inputs = [tmp_path / name for name in ("r.png", "bad.jpg", "b.png")]
    result = run(make_classifier(), inputs, tmp_path / "labels.csv")
    assert [(Path(row["image"]).name, row["label"]) for row in result.done] == [("r.png", "red"), ("b.png", "blue")]
    assert result.done[0]["score"] == pytest.approx(250 / 300, abs=1e-5)
    assert [Path(row["image"]).name for row in result.failed] == ["bad.jpg"]
    head, first, _ = (tmp_path / "labels.csv").read_text().splitlines()
    assert head == "image,label,score,red,green,blue"
    assert first.startswith(f"{inputs[0]},red,0.8333")
    run(make_classifier(), inputs, tmp_path / "labels.json")
    assert json.loads((tmp_path / "labels.json").read_text()) == result.done


def test_a_table_of_labels_gets_its_folder(make_classifier, tmp_path):
    model, table = make_classifier(), tmp_path / "new" / "deep" / "labels.csv"
    run(model, [save(tmp_path / "a.png")], table)
    assert len(table.read_text().splitlines()) == 2
    table.unlink()
    with pytest.raises(UsageError, match=r"a\.png is a file, so the folder .* cannot be made"):
        run(model, [tmp_path / "a.png"], tmp_path / "a.png" / "labels.csv")


def test_labels_that_were_cut_short_leave_no_folder_and_no_advice_for_files(
    make_classifier,
    tmp_path,
    monkeypatch,
    caplog,
):
    def fail(self, batch):
        raise ModelFileError("the model fails")

    model = make_classifier()
    monkeypatch.setattr(Model, "run", fail)
    with caplog.at_level("INFO", logger="simclrseg"), pytest.raises(ModelFileError):
        run(model, [save(tmp_path / "a.png"), save(tmp_path / "b.png")], tmp_path / "new" / "labels.csv")
    assert not (tmp_path / "new").exists()
    assert caplog.messages[-1] == "stopped: 0 of 2 done"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "masks"}, r"name a \.csv or \.json file"),
        ({"outputs": ["overlay"]}, "gives labels, not masks"),
        ({"method": {"tile": 64}}, "gives labels, not masks"),
        ({"method": {"overlap": 0}}, r"--overlap 0 is of tiles, and .* sees each photo whole: leave it out$"),
    ],
)
def test_a_classifier_writes_no_masks(make_classifier, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        run(make_classifier(), [save(tmp_path / "a.png")], **options)


def test_the_command_ends_with_1_when_a_photo_failed(make_model, tmp_path, capsys):
    save(tmp_path / "a.png")
    (tmp_path / "bad.jpg").write_bytes(b"")
    shutil.copy(make_model(), tmp_path / "m.onnx")
    arguments = [str(tmp_path / "a.png"), str(tmp_path / "bad.jpg"), "-o", str(tmp_path / "out"), "--json"]
    with pytest.raises(SystemExit) as end:
        main(["predict", *arguments, "--model", str(tmp_path / "m.onnx"), "--device", "cpu"])
    out, err = capsys.readouterr()
    assert end.value.code == 1
    result = json.loads(out)
    assert result["device"] == "CPU" and [len(result[key]) for key in ("done", "failed", "skipped")] == [1, 1, 0]
    assert "1 done, 1 failed, 0 skipped" in err and "bad.jpg: the file is empty" in err


def test_a_photo_whose_labels_would_be_the_list_of_classes_is_refused(make_model, tmp_path):
    save(tmp_path / "in" / "classes.jpg")
    save(tmp_path / "in" / "a.jpg")
    with pytest.raises(UsageError, match=r"labels of .*classes\.jpg would be written to .*, where the names of the cl"):
        run(make_model(), [tmp_path / "in"], tmp_path / "out", outputs=["yolo"])
    assert not (tmp_path / "out").exists()


def test_what_is_too_large_may_be_allowed(make_model, tmp_path):
    file = save(tmp_path / "a.png")
    config = {"input": {"inputs": [str(file)], "model": str(make_model()), "max_pixels": 1000}}
    result = predict(
        PredictConfig.model_validate(
            {**config, "hardware": {"device": "cpu"}, "console": {"output": str(tmp_path / "out")}}
        ),
        on_file=lambda done, total: None,
    )
    assert result.failed[0]["reason"].endswith(
        "more than the 1,000 allowed; shrink it, or allow more with --max-pixels"
    )


def test_a_cutout_of_a_cut_out_photo_hides_what_was_hidden(make_model, tmp_path):
    alpha = np.full((30, 50), 255, np.uint8)
    alpha[10:20, 30:40] = 0
    Image.fromarray(np.dstack([np.full((30, 50, 3), 230, np.uint8), alpha])).save(tmp_path / "a.png")
    run(make_model(), [tmp_path / "a.png"], tmp_path / "b.png", outputs=["cutout"])
    np.testing.assert_array_equal(read(tmp_path / "b.png")[:, :, 3], alpha)
