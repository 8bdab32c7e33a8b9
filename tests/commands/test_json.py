"""What ``--json`` prints is a contract: the names and the types of all that ``shapes_of_json.json`` lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simclrseg.cli.app import main

SHAPES = Path(__file__).with_name("shapes_of_json.json")
KINDS = {bool: "true or false", int: "number", float: "number", str: "text", type(None): "nothing"}


def shape(value: Any) -> Any:
    """A JSON value with types in the place of its leaves; of a list only what its first item is made of."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return KINDS[type(value)]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    from simclrseg.commands.finetune import finetune
    from simclrseg.config.finetune import FinetuneConfig

    root = tmp_path_factory.mktemp("classifier") / "runs"
    tree = {
        "data": {"dataset": "shapes", "image_size": 32, "data_ratio": 0.1},
        "model": {"task": "classify", "backbone": "cnn"},
        "training": {"epochs": 1, "batch_size": 16},
        "hardware": {"device": "cpu", "precision": "fp32", "workers": 1},
        "console": {"runs": str(root)},
    }
    return finetune(FinetuneConfig.model_validate(tree)).run


@pytest.fixture
def commands(pipeline, classifier, tmp_path) -> dict[str, list[str]]:
    segmenter, backbone = pipeline.finetuned.run, pipeline.pretrained.run
    image = Path(__file__).parents[1] / "data" / "shapes.png"
    (tmp_path / "bad.jpg").write_text("no image")
    runs = ["--runs", str(tmp_path / "runs"), "--device", "cpu"]
    files = [str(image), str(tmp_path / "bad.jpg")]
    small = ["shapes", "--backbone", "cnn", "--image-size", "32", "--epochs", "1", "--batch-size", "16", *runs]
    return {
        "pretrain": ["pretrain", *small, "--max-images", "32"],
        "finetune": ["finetune", *small, "--max-images", "200"],
        "finetune --dry-run": ["finetune", *small, "--max-images", "40", "--dry-run"],
        "evaluate a segmentation": ["evaluate", str(segmenter), *runs],
        "evaluate a classification": ["evaluate", str(classifier), *runs, "--embed", "pca"],
        "evaluate a backbone": ["evaluate", str(backbone), "--dataset", "shapes", *runs],
        "evaluate two": ["evaluate", str(segmenter), str(segmenter / "model.onnx"), *runs],
        "predict masks": ["predict", *files, "-o", str(tmp_path / "masks"), "--model", str(segmenter)],
        "predict labels": ["predict", *files, "--model", str(classifier)],
        "export": ["export", str(segmenter), "-o", str(tmp_path / "out.onnx")],
        "export --inspect": ["export", "--inspect", str(segmenter / "model.onnx")],
        "pull": ["pull"],
    }


@pytest.mark.slow
def test_what_json_prints_has_the_names_and_types_that_it_had(commands, monkeypatch, capsys):
    found = {}
    for name, words in commands.items():
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        assert ended.value.code == (1 if name.startswith("predict") else 0), capsys.readouterr().err
        found[name] = shape(json.loads(capsys.readouterr().out))
    assert found == json.loads(SHAPES.read_text())
