"""`evaluate --label-next`: which photos it chooses, which never, and what it leaves."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from simclrseg.cli.app import main
from simclrseg.commands.finetune import finetune
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.datasets.shapes import Shapes
from simclrseg.errors import DataError, UsageError
from simclrseg.evaluation.label_next import LabelNext
from simclrseg.knobs.parsing import parse_config
from simclrseg.models.weights import read_weights, save_weights
from simclrseg.runs.names import MODEL_FILE
from simclrseg.targets.segment.target import SegmentationTarget
from tests.folders import write
from tests.images.geotiffs import NODATA, UTM, geotiff
from tests.small import SMALL_FINETUNE, changed, evaluation, export_nothing, in_runs


def ask(runs: Path, run: object, count: int, **data: object) -> LabelNext:
    found = evaluation(runs, run, sections={"labels": {"label_next": count}}, **data)
    assert isinstance(found, LabelNext)
    return found


def names(found: LabelNext) -> list[str]:
    return [Path(row["photo"]).stem for row in found.photos]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """20 photos, of which two have masks, two test, one is a copy, one nearly one, and one is cut short."""
    root, shapes = tmp_path_factory.mktemp("set") / "set", Shapes(20)
    for i in range(20):
        write(root / "images" / f"{i:02d}.png", shapes.image(i)[::2, ::2])
    for i in (0, 1):
        write(root / "masks" / f"{i:02d}.png", 255 * shapes.mask(i)[::2, ::2])
    (root / "test.txt").write_text("02\n03\n")
    images = root / "images"
    shutil.copy(images / "04.png", images / "copy.png")
    picture = cv2.imread(str(images / "00.png"))
    picture[0, 0] ^= 1
    cv2.imwrite(str(images / "nearly a labelled one.png"), picture)
    (images / "19.png").write_bytes((images / "19.png").read_bytes()[:900])
    return root


def test_a_pretraining_gives_typical_photos_that_are_not_labelled_tests_or_copies(pipeline, photos, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    found = ask(tmp_path, pipeline.pretrained.run, 6, dataset=str(photos))
    chosen = names(found)
    assert len({*chosen}) == 6 and not {*chosen} & {"00", "01", "02", "03", "19", "nearly a labelled one"}
    assert (found.candidates, found.labelled) == (17, 2)
    for line in (
        "2 photos are labelled already",
        "2 photos are test photos, or would be, and never chosen",
        "1 photos are the same as others",
        "1 photos could not be read; the first:",
    ):
        assert line in caplog.text
    assert found.photos[0]["reason"].startswith("typical of ")
    again = ask(tmp_path, pipeline.pretrained.run, 6, dataset=str(photos))
    assert names(again) == chosen


def test_it_leaves_a_list_a_table_and_a_sheet_of_the_photos(pipeline, photos, tmp_path):
    found = ask(tmp_path, pipeline.pretrained.run, 7, dataset=str(photos))
    paths = [row["photo"] for row in found.photos]
    assert (found.folder / "label-next.txt").read_text().splitlines() == paths
    assert all(Path(path).is_file() for path in paths)
    with open(found.folder / "label-next.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["photo"] for row in rows] == paths and {"score", "reason"} <= rows[0].keys()
    assert json.loads((found.folder / "label-next.json").read_text())["photos"] == found.photos
    sheet = cv2.imread(str(found.folder / "label-next.jpg"))
    assert sheet.shape[1] > 5 * 240 and 2 * 240 < sheet.shape[0] < 3 * 240  # five a row, in two rows


def test_fewer_than_asked_are_said_and_none_is_refused(pipeline, photos, tmp_path, caplog):
    found = ask(tmp_path, pipeline.pretrained.run, 50, dataset=str(photos))
    assert 10 < len(found.photos) <= 16 and found.photos[-1]["reason"]
    assert f"--label-next 50: there are {len(found.photos)} only; all others are labelled, test photos" in caplog.text
    with pytest.raises(
        DataError, match=r"every photo of shapes is labelled, a test photo or a copy of one; name others"
    ):
        ask(tmp_path, pipeline.pretrained.run, 3)  # its own have masks


def test_a_fine_tuned_run_gives_development_photos_that_it_left_out_and_shows_its_masks(pipeline, tmp_path):
    run = pipeline.finetuned.run
    split = json.loads((run / "split.json").read_text())
    found = ask(tmp_path, run, 5)
    chosen = {row["photo"] for row in found.photos}
    assert len(chosen) == 5 and not chosen & {*split["train"], *split["validation"], *split["test"]}
    assert found.candidates == split["development"] - len(split["train"]) - len(split["validation"])
    assert found.photos[0]["score"] == pytest.approx(
        found.photos[0]["uncertainty"] * found.photos[0]["distance"], rel=1e-3
    )
    assert "unsure" in found.photos[0]["reason"]
    sheet = cv2.imread(str(found.folder / "label-next.jpg"))[:, :, ::-1].astype(int)
    plain = ask(tmp_path, pipeline.pretrained.run, 5, dataset=str(_saved(found, tmp_path)))
    bare = cv2.imread(str(plain.folder / "label-next.jpg"))[:, :, ::-1].astype(int)
    red = [(picture[:, :, 0] - picture[:, :, 1:].max(2) > 20).mean() for picture in (sheet, bare)]
    assert red[0] > red[1] + 0.01  # half a class's colour lies over it


def _saved(found: LabelNext, folder: Path) -> Path:
    """The same photos as files."""
    shapes = Shapes(1000)
    for row in found.photos:
        index = shapes.keys.index(row["photo"])
        write(folder / "same" / f"{Path(row['photo']).stem}.png", shapes.image(index))
    return folder / "same"


def test_of_other_photos_those_it_was_trained_or_tests_with_are_left_out(pipeline, tmp_path):
    run, shapes = pipeline.finetuned.run, Shapes(1000)
    split = json.loads((run / "split.json").read_text())
    root = tmp_path / "more"
    for number in range(1000, 1006):
        write(root / f"new {number}.png", Shapes(1006).image(number))
    found = ask(tmp_path, run, 3, dataset=str(root))
    assert all(name.startswith("new ") for name in names(found)) and len(found.photos) == 3
    assert found.labelled == len(split["train"]) + len(split["validation"]) and len(shapes) == 1000


def test_paths_alone_go_to_stdout(pipeline, photos, tmp_path, capsys):
    words = [str(pipeline.pretrained.run), "--dataset", str(photos), "--label-next", "3", "--runs", str(tmp_path), "-q"]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *words])
    out = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0 and len(out) == 3 and all(Path(line).is_file() for line in out)
    with pytest.raises(SystemExit):
        main(["evaluate", *words, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [row["photo"] for row in found["photos"]] == out
    assert found.keys() == {"run", "asked", "candidates", "labelled", "photos", "report"}


@pytest.mark.parametrize(
    ("models", "data", "message"),
    [
        (1, {"minimum": ["iou=0.5"]}, "--min is of photos with labels, and --label-next looks for some without"),
        (1, {"split": "all"}, "--split is of photos with labels"),
        (2, {}, r"--label-next asks one run, and 2 are named: name photos as --dataset "),
        (0, {}, r"--label-next needs features, and x\.onnx gives answers only: name its run"),
    ],
)
def test_what_goes_with_labels_is_refused(pipeline, photos, tmp_path, models, data, message):
    named = [pipeline.pretrained.run, photos][:models] or ["x.onnx"]
    with pytest.raises(UsageError, match=message):
        evaluation(tmp_path, *named, sections={"labels": {"label_next": 3}}, **data)
    assert not list(tmp_path.iterdir())


def test_photos_without_a_file_have_their_own_keys_and_of_several_sets_the_name_of_theirs(pipeline, photos, tmp_path):
    unlabelled = tmp_path / "more"
    for number in range(1000, 1006):
        write(unlabelled / f"new {number}.png", Shapes(1006).image(number))
    alone = ask(tmp_path, pipeline.finetuned.run, 3)
    assert {row["photo"] for row in alone.photos} < {*Shapes(1000).keys}
    assert alone.in_words() == [row["photo"] for row in alone.photos] and "dataset" not in alone.photos[0]
    run = tmp_path / "runs" / "finetune" / "beside"
    shutil.copytree(pipeline.finetuned.run, run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("unlabelled: []", f"unlabelled: ['{unlabelled}']"))
    both = ask(tmp_path / "runs", run, 200)
    for row, line in zip(both.photos, both.in_words(), strict=True):
        if row["dataset"] == "shapes":
            assert row["photo"] in Shapes(1000).keys and line == f"{row['photo']} of shapes"
        else:
            assert row["dataset"] == str(unlabelled) and line == row["photo"] and Path(line).is_file()
    assert len({row["dataset"] for row in both.photos}) == 2


def test_what_is_left_out_is_counted_once_where_the_photos_are_the_run_s_own_once_more(pipeline, tmp_path, caplog):
    """40 photos, of which 20 have masks and 5 of these test; named by ``--dataset``, they are looked at twice."""
    root, shapes = tmp_path / "set", Shapes(40)
    for i in range(40):
        write(root / "images" / f"{i:02d}.png", shapes.image(i)[::2, ::2])
        if i < 20:
            write(root / "masks" / f"{i:02d}.png", 255 * shapes.mask(i)[::2, ::2])
    (root / "test.txt").write_text("".join(f"{i:02d}\n" for i in range(5)))
    tree = changed(in_runs(SMALL_FINETUNE, tmp_path / "runs"), "data", dataset=str(root), data_ratio=1.0)
    tree = changed(tree, "model", pretrained=str(pipeline.pretrained.run))
    with pytest.MonkeyPatch.context() as patch:
        export_nothing(patch)
        run = finetune(parse_config(FinetuneConfig, changed(tree, "training", epochs=1))).run
    caplog.clear()
    caplog.set_level(logging.INFO)
    own, named = ask(tmp_path / "runs", run, 3), ask(tmp_path / "runs", run, 3, dataset=str(root))
    assert (own.candidates, own.labelled) == (named.candidates, named.labelled) == (20, 15)
    said = [line for line in caplog.messages if " photos " in line and line[0].isdecimal()]
    assert said == 2 * [
        "20 photos to choose from",
        "15 photos are labelled already",
        "5 photos are test photos, or would be, and never chosen",
    ]


@pytest.mark.parametrize("resize", ["squash", "tile"])
def test_doubt_is_the_mean_over_all_that_a_photo_holds(pipeline, tmp_path, resize, caplog):
    run, folder = tmp_path / "runs" / "finetune" / "own", tmp_path / "scenes"
    shutil.copytree(pipeline.finetuned.run, run)
    tensors, metadata = read_weights(run / MODEL_FILE)
    assert metadata is not None
    metadata = metadata.model_copy(update={"resize": resize})
    save_weights(run / MODEL_FILE, tensors, metadata)
    shapes, scenes = Shapes(1000), {}
    folder.mkdir()
    for number in range(4):
        pixels = np.concatenate([shapes.image(3 * number + of)[:32, :32].clip(1) for of in range(3)], axis=1)
        pixels = np.concatenate([pixels, pixels[::-1]])  # (64, 96, 3)
        pixels[:, : 96 if number == 3 else 32] = 0
        scenes[str(number)] = pixels
        (folder / f"{number}.tif").write_bytes(geotiff(pixels, UTM | {NODATA: "0"}))
    found = ask(tmp_path / "runs", run, 4, dataset=str(folder))
    learner, _ = SegmentationTarget.load(run / MODEL_FILE)
    learner.model.eval()

    def doubt(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            p = learner.probabilities(torch.from_numpy(image[None].copy()))[0].double().numpy()
        return -(p * np.log2(p.clip(1e-12)) + (1 - p) * np.log2((1 - p).clip(1e-12)))

    assert len(found.photos) >= 2 and "3" not in names(found)
    assert "3.tif: it holds no values at all" in caplog.text
    for row in found.photos:
        pixels = scenes[Path(row["photo"]).stem]
        if resize == "tile":
            each = [doubt(pixels[y : y + 32, x : x + 32]) for y in (0, 32) for x in (32, 64)]
        else:
            held = cv2.resize((pixels[:, :, 0] > 0).astype(np.uint8), (32, 32), interpolation=cv2.INTER_NEAREST_EXACT)
            each = [doubt(cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA))[held > 0]]
        assert row["uncertainty"] == pytest.approx(np.concatenate(each, axis=None).mean(), rel=1e-3)
