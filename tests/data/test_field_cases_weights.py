"""Folders as people have them: values of more than 8 bits, pages, odd shapes, and files that are no models."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from simclrseg.commands.finetune import finetune
from simclrseg.commands.pretrain import PretrainResult, pretrain
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.folder import image_folder
from simclrseg.data.samples import MaskPairs
from simclrseg.errors import DataError, ModelFileError, UsageError
from simclrseg.images.decode import read_image
from simclrseg.inference.inputs import InputImage
from simclrseg.inference.model import LoadedModel
from simclrseg.inference.predictor import Predictor
from simclrseg.inference.session import open_model
from simclrseg.metadata import ONNX_PREFIX, ModelMetadata
from simclrseg.models.weights import read_metadata
from simclrseg.targets.knobs import LabelledData
from simclrseg.targets.segment.target import SegmentationTarget
from simclrseg.targets.unlabelled import open_unlabelled
from simclrseg.training.normalization import choose_normalization
from tests.small import SMALL_FINETUNE, SMALL_PRETRAIN, in_runs

ANYTHING = DatasetOptions()


def line_of(dataset, words: str) -> str:
    (line,) = [line for line in dataset.summary if words in line]
    return line


def test_12_bits_in_16_are_scaled_and_said(field_cases):
    dataset = image_folder(field_cases / "20-12bit-in-16", ANYTHING)
    assert dataset.reach == (0, 4095) and dataset.full_scale == 255 and dataset.dtype == np.uint8
    assert "values from 0 to 4,080, of which 0 to 4,095 become 0 to 255" in line_of(dataset, "more than 8 bits")
    stored = np.asarray(Image.open(dataset.path(3)))
    np.testing.assert_allclose(dataset.image(3)[:, :, 0], stored / 4095 * 255, atol=0.51)
    assert 30 < np.mean([dataset.image(index).mean() for index in range(len(dataset))]) < 220


def test_a_set_that_mixes_bits_says_how_many_photos_are_nearly_black(field_cases):
    assert "in which 7 of 9 are nearly black" in line_of(
        image_folder(field_cases / "45-12bit", ANYTHING), "more than 8 bits"
    )


def test_photos_of_8_bits_say_nothing_of_ranges_or_pages(field_cases):
    dataset = image_folder(field_cases / "25-five", ANYTHING)
    assert dataset.reach is None and not [line for line in dataset.summary if "bits" in line or "pages" in line]


def test_of_stacks_the_first_page_is_used_and_said(field_cases):
    dataset = image_folder(field_cases / "21-stacks", ANYTHING)
    assert line_of(dataset, "photos of several pages").endswith("used: 12 (s00.tif, s01.tif and 10 more)")
    assert "used: 12" in line_of(dataset, "masks of several pages")
    with Image.open(dataset.path(4)) as picture, Image.open(dataset.mask_path(4)) as mask:
        np.testing.assert_array_equal(dataset.image(4)[:, :, 0], np.asarray(picture))
        np.testing.assert_array_equal(dataset.mask(4) == 1, np.asarray(mask) == 255)


@pytest.mark.parametrize("folder", ["25-five", "27-odd-shapes"])
def test_few_photos_and_photos_of_odd_shapes_give_samples(field_cases, folder):
    dataset = image_folder(field_cases / folder, ANYTHING)
    samples = MaskPairs(dataset, range(len(dataset)), image_size=32)
    out = {name: np.empty((len(dataset), *shape), dtype) for name, (shape, dtype) in samples.fields.items()}
    samples.fill(0, np.arange(len(dataset)), out)
    assert out["index"].tolist() == list(range(len(dataset))) and not samples.skipped
    assert set(np.unique(out["mask"])) == {0, 1}


def test_a_model_keeps_the_range_that_it_was_trained_with(field_cases, tmp_path, unexported):
    config = {
        **SMALL_FINETUNE,
        "data": {"dataset": str(field_cases / "20-12bit-in-16"), "image_size": 32},
        "model": {"pretrained": "none", "backbone": "cnn"},
        "training": {"epochs": 1, "batch_size": 4},
    }
    finetune(FinetuneConfig.model_validate(in_runs(config, tmp_path)))
    (file,) = tmp_path.glob("finetune/*/model.safetensors")
    metadata = read_metadata(file)
    assert metadata is not None and metadata.reach == (0, 4095) and metadata.takes_photos


@pytest.mark.parametrize(
    ("reach", "says"), [((0, 65535), ", in which 14 of 14 are beyond it or nearly black"), ((0, 4095), "")]
)
def test_photos_to_score_a_model_on_are_scaled_as_it_was_trained(field_cases, reach, says):
    model = ModelMetadata(
        task="segmentation", encoder="cnn", image_size=32, classes=("background", "foreground"), reach=reach
    )
    data = LabelledData(dataset=str(field_cases / "20-12bit-in-16"))
    target = SegmentationTarget.open(data, for_training=False, model=model)
    assert target.dataset.reach == reach
    for index in (0, 5):
        path = target.dataset.path(index)
        np.testing.assert_array_equal(target.dataset.image(index), read_image(path, reach=reach))
    assert line_of(target.dataset, "bits") == (
        f"photos of more than 8 bits: values from 0 to 4,080, of which 0 to {reach[1]:,} become 0 to 255, as in "
        f"training{says}"
    )


def test_a_backbone_keeps_its_range_and_fine_tuning_says_where_it_differs(field_cases, tmp_path, caplog):
    config = {
        **SMALL_PRETRAIN,
        "data": {"dataset": [str(field_cases / "20-12bit-in-16")], "image_size": 32},
        "training": {"epochs": 1, "batch_size": 8},
        "run": {"knn_every": 0},
    }
    result = pretrain(PretrainConfig.model_validate(in_runs(config, tmp_path)))
    assert isinstance(result, PretrainResult)
    metadata = read_metadata(result.backbone)
    assert metadata is not None and metadata.reach == (0, 4095)
    dataset = image_folder(field_cases / "20-12bit-in-16", ANYTHING)
    caplog.clear()
    choose_normalization(None, dataset, [0], source=metadata, threads=1)
    assert not caplog.messages
    other = metadata.model_copy(update={"reach": (0, 65535)})
    choose_normalization(None, dataset, [0], source=other, threads=1)
    (line,) = caplog.messages
    assert "values from 0 to 4,095 become 0 to 255, where the start weights were trained with 0 to 65,535" in line


def test_unlabelled_photos_are_scaled_as_the_labelled_ones(field_cases):
    deep, others = str(field_cases / "20-12bit-in-16"), str(field_cases / "45-12bit")
    target = SegmentationTarget.open(LabelledData(dataset=deep))
    dataset, chosen = open_unlabelled([others], target)
    assert dataset.reach == (0, 4095) and len(chosen) > 3
    for index in chosen:
        np.testing.assert_array_equal(dataset.image(index), read_image(dataset.path(index), reach=(0, 4095)))
    eight = SegmentationTarget.open(LabelledData(dataset=str(field_cases / "15-name-seg")))
    with pytest.raises(DataError, match="20-12bit-in-16 has photos of more than 8 bits and 15-name-seg has none"):
        open_unlabelled([deep], eight)


def model_with(path: Path, **facts: object) -> Path:
    """The same model of which the metadata say more."""
    model = onnx.load(path)
    metadata = ModelMetadata.from_strings({prop.key: prop.value for prop in model.metadata_props}, ONNX_PREFIX)
    assert metadata is not None
    del model.metadata_props[:]
    helper.set_model_props(model, metadata.model_copy(update=facts).to_strings(ONNX_PREFIX))
    path.write_bytes(model.SerializeToString())
    return path


def read_by(predictor: Predictor, file: Path) -> np.ndarray:
    return predictor.read(InputImage(file, Path(file.name))).pixels


def test_predict_scales_each_photo_where_the_model_knows_no_range_and_says_it(field_cases, make_model, caplog):
    caplog.set_level(logging.INFO, logger="simclrseg")
    predictor = Predictor(open_model(make_model(), "cpu"))
    folder = field_cases / "45-12bit"
    for kind, eight in (("g", read_image(folder / "g8.png")), ("rgb", read_image(folder / "rgb8.png"))):
        for file in sorted(folder.glob(f"{kind}[0-9f i]*")):
            np.testing.assert_allclose(read_by(predictor, file).astype(int), eight, atol=1, err_msg=file.name)
    lines = [line for line in caplog.messages if "become 0 to 255" in line]
    assert len(lines) == 4  # once of each range: 12 bits, 16 bits, 0 to 1, 0 to 255
    assert "g12.png: values from 160 to 3,600, of which 0 to 4,095 become 0 to 255" in lines[0]


def test_predict_takes_the_range_of_training_and_warns_of_photos_that_have_another(field_cases, make_model, caplog):
    caplog.set_level(logging.INFO, logger="simclrseg")
    predictor = Predictor(open_model(model_with(make_model(), reach=(0, 65535)), "cpu"))
    folder = field_cases / "45-12bit"
    assert read_by(predictor, folder / "g12.png").max() < 16  # as such a model was trained
    assert "g12.png: values from 160 to 3,600" in caplog.text and "of another range" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()
    assert read_by(predictor, folder / "g16.png").max() == 225
    assert caplog.messages == [
        f"{folder / 'g16.png'}: values from 2,570 to 57,825, of which 0 to 65,535 become 0 to 255, as in training"
    ]
    caplog.clear()
    np.testing.assert_array_equal(read_by(predictor, folder / "g8.png"), read_image(folder / "g8.png"))
    assert not caplog.messages


def test_a_pil_image_of_16_bits_is_refused_where_its_file_is_not(field_cases, make_model):
    model = LoadedModel(open_model(make_model(), "cpu"))
    file = field_cases / "45-12bit" / "g12.png"
    assert model.predict(file).image.max() == 224
    with Image.open(file) as picture, pytest.raises(UsageError, match=r"mode I;16 has no 8 bits.*pass its file"):
        model.predict(picture)


def test_photos_that_their_alpha_channel_hides_as_a_whole_are_said_and_by_predict_once(make_model, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="simclrseg")
    colours = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    for number, opacity in enumerate((0, 0, 255)):
        alpha = np.full((32, 32), opacity, np.uint8)
        Image.fromarray(np.dstack([colours[number], alpha])).save(tmp_path / f"{number}.tga")
    dataset = image_folder(tmp_path, ANYTHING)
    assert "whose colours are taken: 2 of 3 looked at (0.tga, 1.tga)" in line_of(dataset, "alpha channel")
    predictor = Predictor(open_model(make_model(), "cpu"))
    for number in range(3):
        np.testing.assert_array_equal(dataset.image(number), colours[number])
        np.testing.assert_array_equal(read_by(predictor, tmp_path / f"{number}.tga"), colours[number])
    assert [line for line in caplog.messages if "alpha channel" in line] == [
        f"{tmp_path / '0.tga'}: its alpha channel hides all of it, so that its colours are taken as they are"
    ]


def test_predict_says_that_of_stacks_and_animations_the_first_is_taken(field_cases, make_model, caplog):
    caplog.set_level(logging.INFO, logger="simclrseg")
    predictor = Predictor(open_model(make_model(), "cpu"))
    for file in sorted((field_cases / "44-stack").iterdir()):
        read_by(predictor, file)
        assert f"{file}: several frames or pages, of which the first is taken" in caplog.messages


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "is empty"),
        ("html", "is a web page"),
        ("pointer", "is only a pointer of Git LFS.*git lfs pull"),
        ("u2net", r"was not exported by simclrseg: it has the tensors 1959, input\.1.*simclrseg export"),
    ],
)
def test_onnx_files_that_are_something_else_are_named(field_cases, name, reason):
    with pytest.raises(ModelFileError, match=rf"{name}\.onnx {reason}") as caught:
        open_model(field_cases / "51-foreign-onnx" / f"{name}.onnx", "cpu")
    assert "\n" not in str(caught.value)
