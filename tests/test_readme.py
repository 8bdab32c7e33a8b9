"""Every command of the README and the guide works, in the order of the page; the whole job in test_readme_start.py."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from safetensors.torch import save

from simclrseg.cli.app import main
from simclrseg.config.files import PRESETS
from simclrseg.data.datasets import DATASETS
from simclrseg.hub.imagenet import IMAGENET
from simclrseg.inference import OUTPUTS
from simclrseg.labels.coco import coco_annotations
from simclrseg.losses import LOSSES
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import build_backbone
from simclrseg.scores import TERMS
from tests.processes import Simclrseg
from tests.readme import CLASSROOM, CONTRIBUTING, GUIDE, README, TREE, Page, words

CARD = [
    "simclrseg pretrain --dataset cats_vs_dogs",
    "simclrseg finetune --pretrained pets --data-ratio 0.5",
    "simclrseg predict image.jpg -o mask.png",
]
# Added to commands that begin so, which are made for a GPU, or for an evening.
SMALLER = {
    "simclrseg pretrain": "--backbone cnn --image-size 32 --epochs 1",
    "simclrseg finetune": "--image-size 32 --epochs 1 --batch-size 8",
    "simclrseg finetune --dataset oxford_pets --pretrained none": "--backbone cnn",
}


@pytest.fixture
def few_photos(real_data, tmp_path) -> Path:
    """The named sets of the README, with a few photos each: the commands are tried, not what they learn."""
    root = tmp_path / "few"
    for kind in ("cat", "dog"):
        (root / "cats_vs_dogs" / kind).mkdir(parents=True)
        for path in sorted((real_data / "cats_vs_dogs" / kind).glob("*.jpg"))[:80]:
            (root / "cats_vs_dogs" / kind / path.name).symlink_to(path)
    few_listed(
        real_data / "oxford_pets" / "oxford-iiit-pet", root / "oxford_pets" / "oxford-iiit-pet", "annotations", 40
    )
    voc = Path("voc", "VOCdevkit", "VOC2012")
    few_listed(real_data / voc, root / voc, "ImageSets", 16)
    batches = Path("cifar10", "cifar-10-batches-py")
    (root / batches).mkdir(parents=True)
    for path in (real_data / batches).iterdir():
        batch = pickle.loads(path.read_bytes(), encoding="bytes")
        few = {key: values[:20] if key in (b"data", b"labels") else values for key, values in batch.items()}
        (root / batches / path.name).write_bytes(pickle.dumps(few))
    return root


def few_listed(source: Path, target: Path, lists: str, count: int) -> None:
    """A set whose photos follow from its lists, with the first names of each list."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.name != lists:
            (target / path.name).symlink_to(path)
    for path in (source / lists).rglob("*"):
        place = target / lists / path.relative_to(source / lists)
        if path.is_dir() and path.name != "trimaps":
            place.mkdir(parents=True, exist_ok=True)
        elif path.name == "trimaps":
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
        elif path.suffix == ".txt":
            place.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_text().splitlines(keepends=True)
            place.write_text("".join(lines[:: max(1, len(lines) // count)]))


def write_coco(pets: Path, export: Path, count: int) -> None:
    """Some pets as a labelling tool exports them."""
    export.mkdir()
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "pet"}]}
    for number, trimap in enumerate(sorted((pets / "annotations" / "trimaps").glob("[!.]*.png"))[:count]):
        photo = pets / "images" / f"{trimap.stem}.jpg"
        (export / photo.name).symlink_to(photo)
        mask = (cv2.imread(str(trimap), cv2.IMREAD_UNCHANGED) != 2).astype(np.uint8)
        size = {"height": mask.shape[0], "width": mask.shape[1]}
        content["images"].append({"id": number, "file_name": photo.name, **size})
        for annotation in coco_annotations(mask, [1]):
            content["annotations"].append({"id": len(content["annotations"]), "image_id": number, **annotation})
    (export / "_annotations.coco.json").write_text(json.dumps(content))


def write_scribbles(pets: Path, folder: Path, count: int) -> None:
    """Some pets of which a line each of pet and background is painted."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    (folder / "classes.yaml").write_text("[background, pet, ignore]\n")
    for trimap in sorted((pets / "annotations" / "trimaps").glob("[!.]*.png"))[:count]:
        (folder / "images" / f"{trimap.stem}.jpg").symlink_to(pets / "images" / f"{trimap.stem}.jpg")
        known = cv2.imread(str(trimap), cv2.IMREAD_UNCHANGED)
        mask = np.where(known == 2, 0, 1).astype(np.uint8)
        mask[np.arange(len(mask)) % 60 > 12] = 255
        mask[known == 3] = 255
        cv2.imwrite(str(folder / "masks" / f"{trimap.stem}.png"), mask)


def test_the_second_command_is_the_one_that_ci_runs():
    (command,) = README.commands_like(r"pip install .* && pytest")
    pattern = re.search(r'grep -m 1 "(.*)" README.md', (TREE / ".ci" / "run").read_text())
    assert pattern and re.search(pattern[1], command)


def write_fields(folder: Path, count: int) -> None:
    """Some pictures of three bands that name none, in 16 bits, and masks; one of them as a scene beside the folder."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        mask = np.zeros((48, 64), np.uint8)
        mask[:, 10 + number : 40] = 255
        bands = generator.integers(200, 900, (48, 64, 3)) + 20 * mask[..., None]
        tifffile.imwrite(
            folder / "images" / f"{number}.tif",
            bands.astype(np.uint16),
            photometric="minisblack",
            planarconfig="contig",
        )
        cv2.imwrite(str(folder / "masks" / f"{number}.png"), mask)
    shutil.copy(folder / "images" / "0.tif", folder.parent / "scene.tif")


def few_pets(real_data: Path, folder: Path, count: int) -> None:
    folder.mkdir()
    for path in list((real_data / "oxford_pets_unlabelled").rglob("*.jpg"))[:count]:
        shutil.copy(path, folder / path.name)


@pytest.mark.slow
def test_every_command_of_the_readme_works_for_a_new_user(tmp_path, real_data, fake_hub, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pets = real_data / "oxford_pets" / "oxford-iiit-pet"
    few_pets(real_data, tmp_path / "photos", 12)
    for folder in ("images", "masks"):
        (tmp_path / "labelled" / folder).mkdir(parents=True)
    for trimap in sorted((pets / "annotations" / "trimaps").glob("[!.]*.png"))[:15]:
        shutil.copy(pets / "images" / f"{trimap.stem}.jpg", tmp_path / "labelled" / "images")
        mask = np.where(cv2.imread(str(trimap), cv2.IMREAD_UNCHANGED) == 2, 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "labelled" / "masks" / trimap.name), mask)
    files = {
        "model.safetensors": save(build_backbone("resnet18").state_dict()),
        "config.json": b'{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}',
    }
    fake_hub.add("smp-hub/resnet18.imagenet", files, commit=IMAGENET["resnet18"])
    commands = [command for command in README.commands if not command.startswith("pip install")]
    assert commands[1:4] == CARD  # which the guide's test types
    for command in commands[:1] + commands[4:]:
        smaller = f"{SMALLER['simclrseg finetune']} --backbone resnet18" if " finetune " in command else ""
        with pytest.raises(SystemExit) as ended:
            main(words(f"{command} {smaller}"))
        assert ended.value.code in (0, None), f"{command}: {capsys.readouterr().err}"
    assert (tmp_path / "mask.png").is_file() and (tmp_path / "runs/finetune/mine/examples.png").is_file()
    assert len(list((tmp_path / "masks").glob("*.png"))) == 12
    assert (tmp_path / "runs/evaluate/mine/report.html").is_file()


@pytest.mark.slow
def test_every_other_command_of_the_guide_works_in_the_order_of_the_page(tmp_path, real_data, few_photos):
    (tmp_path / "image.jpg").write_bytes(next((real_data / "oxford_pets_unlabelled").rglob("*.jpg")).read_bytes())
    few_pets(real_data, tmp_path / "photos", 3)
    write_coco(real_data / "oxford_pets" / "oxford-iiit-pet", tmp_path / "export", 24)
    write_scribbles(real_data / "oxford_pets" / "oxford-iiit-pet", tmp_path / "scribbles", 24)
    write_fields(tmp_path / "fields", 12)
    commands = [command for command in GUIDE.commands if "shapes" not in command]
    assert commands[:3] == CARD and all(GUIDE.commands_like(start) for start in SMALLER)
    for command in commands:
        typed = " ".join([command, *(more for start, more in SMALLER.items() if command.startswith(start))])
        done = Simclrseg(*words(typed), folder=tmp_path, SIMCLRSEG_DATA=str(few_photos)).wait()
        assert done.returncode == 0, f"{command}: {done.stderr}"
    photo, mask = cv2.imread(str(tmp_path / "image.jpg")), cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == photo.shape[:2]
    drafts = [photo.with_suffix(".json").is_file() for photo in (tmp_path / "photos").glob("*.jpg")]
    assert drafts == [True] * 3
    cut = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (tmp_path / "cutouts").glob("*.png")]
    assert [picture.shape[2] for picture in cut] == [4] * 3
    assert len((tmp_path / "runs/evaluate/pets/label-next.txt").read_text().splitlines()) == 20
    for left in ("runs/pretrain/pets", "runs/finetune/oxford_pets-pets-r0.5", "model.onnx"):
        assert (tmp_path / left).exists()


def test_the_help_that_the_guide_names_defines_every_score(capsys):
    ((command, option),) = re.findall(r"Every score \(`simclrseg (\w+) (--\S+)` defines\s+them\)", GUIDE.text)
    with pytest.raises(SystemExit):
        main([command, option])
    shown = re.findall(r"^│ ([\w% ]+?)  ", capsys.readouterr().out, flags=re.MULTILINE)
    assert {name[:16] for name in TERMS} <= {name[:16] for name in shown}


def test_every_room_is_in_the_table_of_the_house():
    house = re.findall(r"^\| room \|.*?\n\n", CONTRIBUTING.text, flags=re.DOTALL | re.MULTILINE)[0]
    rooms = {path.parent.name for path in (TREE / "simclrseg").glob("*/__init__.py")}
    assert {name for row in house.strip().splitlines() for name in re.findall(r"`(\w+)/`", row.split("|")[1])} == rooms


def test_links_lead_somewhere():
    for page in (README, GUIDE, CONTRIBUTING, *(Page(f".github/docs/{name}.md") for name in ("figures", "lesson"))):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.text):
            assert (TREE / page.name).parent.joinpath(target).exists(), f"{page.name}: {target}"
        titles = re.findall(r"^#+ (.*)$", page.text, flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert set(re.findall(r"\]\(#([\w-]+)\)", page.text)) <= anchors


def listed(pattern: str) -> list[str]:
    """The names between backticks of a part of the page."""
    return re.findall(r"`([\w{},]+)`", re.findall(pattern, GUIDE.text, flags=re.DOTALL)[0])


def test_the_lists_in_the_guide_are_those_of_the_tables():
    assert listed(r"Losses are\s(.*?) and sums") == list(LOSSES)
    assert listed(r"`--decoder` takes (.*?)\.") == list(SEGMENTERS)
    assert set(listed(r"Named datasets \((.*?)\) are\s")) == set(DATASETS)
    outputs = re.findall(r"^\| `--as` .*?\n\n", GUIDE.text, flags=re.DOTALL | re.MULTILINE)[0].splitlines()[2:]
    assert [name for row in outputs if row for name in re.findall(r"`(\w+)`", row.split("|")[1])] == list(OUTPUTS)


def test_every_preset_is_in_the_guide():
    names = listed(r"\| `--config` \|(.*?)\n\n")
    stems = [re.match(r"(\w+?)(?:\{(.*)\})?$", name).groups() for name in names]
    assert sorted(stem + end for stem, ends in stems for end in (ends or "").split(",")) == sorted(PRESETS)


def test_the_install_for_a_cpu_leaves_no_dependency_out():
    pattern = r"^    pip install torch torchvision --index-url \S+; pip install (.*); pip install --no-deps \.$"
    (line,) = re.findall(pattern, README.text, flags=re.MULTILINE)
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]}
    assert set(line.split()) == needed - {"torch", "torchvision", "onnxruntime-gpu"}
    assert re.findall(r"^    pip wheel (onnx.*) --find-links", CLASSROOM.text, flags=re.MULTILINE) == [line]
