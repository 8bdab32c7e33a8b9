"""What is published, and what is installed by the README's shorter lines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from PIL import Image

import simclrseg
from tests.readme import TREE

PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (TREE / "README.md").read_text(encoding="utf-8")
ALONE = r"^    pip install (onnxruntime .*); pip install --no-deps \.$"


def names(requirements: list[str]) -> set[str]:
    return {Requirement(text).name for text in requirements}


def test_the_citation_is_of_this_version_and_as_its_format_asks():
    """Citation File Format 1.2.0."""
    citation = yaml.safe_load((TREE / ".github" / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (simclrseg.__version__, PROJECT["license"])
    assert citation["type"] == "software" and all("name" in author for author in citation["authors"])
    (paper,) = citation["references"]
    assert {"authors", "title", "type"} <= paper.keys() and isinstance(paper["year"], int)


def test_the_tests_have_what_the_page_needs_in_the_versions_of_its_extra():
    extras = PROJECT["optional-dependencies"]
    assert set(extras["serve"]) < set(extras["test"])


def test_what_predicts_alone_is_among_what_all_need():
    (line,) = re.findall(ALONE, README, flags=re.MULTILINE)
    assert set(line.split()) < names(PROJECT["dependencies"])


def needed(wanted: list[str]) -> dict[str, Distribution]:
    """Distributions with all that they need, by name; of ONNX Runtime whichever build is here."""
    found: dict[str, Distribution] = {}
    wanted = [*wanted]
    while wanted:
        name = wanted.pop()
        if name == "onnxruntime":
            (name,) = packages_distributions()["onnxruntime"]
        if name not in found:
            found[name] = distribution(name)
            requirements = map(Requirement, found[name].requires or ())
            wanted += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A folder of packages that holds what the README's line installs, and nothing else."""
    (line,) = re.findall(ALONE, README, flags=re.MULTILINE)
    site = tmp_path_factory.mktemp("alone")
    folders = {Path(simclrseg.__file__).parent}
    for each in needed(line.split()).values():
        tops = {file.parts[0] for file in each.files or () if file.parts[0] not in ("..", "__pycache__")}
        folders |= {Path(str(each.locate_file(top))) for top in tops}
    try:
        for folder in folders:
            (site / folder.name).symlink_to(folder)
    except OSError as error:  # Windows grants it to few
        pytest.skip(f"no links can be made here: {error}")
    return site


def python(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code that finds the standard library and the packages of a folder."""
    code = f"import sys; sys.path.append({str(site)!r}); {code}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)


def test_it_predicts_without_pytorch(alone, make_model, tmp_path):
    Image.new("RGB", (40, 30), (200, 200, 200)).save(tmp_path / "a.png")
    model = str(make_model())
    loaded = (
        f"import simclrseg; print(simclrseg.load_model({model!r}).predict({str(tmp_path / 'a.png')!r}).mask.mean())"
    )
    assert python(alone, loaded).stdout == "1.0\n"
    (tmp_path / "c.yaml").write_text("command: predict\nthreshold: 0.6\n")
    words = ["predict", str(tmp_path / "a.png"), "-o", str(tmp_path / "m.png"), "--model", model, "--device", "cpu"]
    words += ["--config", str(tmp_path / "c.yaml"), "--json"]
    command = f"sys.argv[1:] = {words!r}; from simclrseg.__main__ import main; main()"
    done = python(alone, f"{loaded}; {command}")
    assert done.returncode == 0, done.stderr
    mean, _, result = done.stdout.partition("\n")
    assert mean == "1.0" and json.loads(result)["done"][0]["mask"] == str(tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as mask:
        assert mask.size == (40, 30) and mask.getextrema() == (255, 255)


@pytest.mark.parametrize("words", [["finetune", "shapes"], ["predict", "--serve"]])
def test_what_is_not_installed_is_one_line(alone, tmp_path, words):
    command = (
        f"import os; os.chdir({str(tmp_path)!r}); sys.argv[1:] = {words!r}; from simclrseg.__main__ import main; main()"
    )
    done = python(alone, command)
    assert done.returncode == 2 and re.fullmatch(r"error: .* not installed.*: .*pip install.*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []
