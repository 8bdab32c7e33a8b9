"""Every command of the lesson works in its order, and its notebook from top to bottom."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from simclrseg.cli.app import main
from simclrseg.data.datasets.shapes import Shapes
from tests.readme import TREE, Page, words
from tests.small import export_nothing

LESSON = Page(".github/docs/lesson.md")
NOTEBOOK = TREE / ".github" / "docs" / "lesson.ipynb"
# Added to commands that match: they are tried, not what they learn.
SMALLER = {
    "simclrseg pretrain": "--backbone cnn --image-size 32 --epochs 1",
    "simclrseg finetune": "--image-size 32 --epochs 1 --batch-size 8",
    "simclrseg finetune .*--pretrained none": "--backbone cnn",
}
PARAMETERS = 'backbone, size, epochs, photos = "cnn", 32, 1, 128\nmask_size, mask_epochs = 32, 1\n'


@pytest.mark.slow
def test_every_command_of_the_lesson_works_in_its_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Shapes.__init__, "__defaults__", (160,))  # pictures
    shutil.copy(TREE / "tests" / "data" / "shapes.png", "photo.jpg")
    assert all(LESSON.commands_like(start) for start in SMALLER)
    for command in LESSON.commands:
        more = " ".join(more for start, more in SMALLER.items() if re.match(start, command))
        with monkeypatch.context() as patched:
            if "--name from-dense" not in command:  # which predicts
                export_nothing(patched)
            with pytest.raises(SystemExit) as ended:
                main(words(f"{command} {more}"))
        assert ended.value.code in (0, None), f"{command}: {capsys.readouterr().err}"
    named = re.findall(r"`((?:runs/[\w./-]+|\w+)\.(?:png|html|md))`", LESSON.text)
    assert len(named) > 4 and all(
        Path(name).is_file() or list(Path().rglob(Path(name).name)) for name in named
    )  # what students are told to open
    assert Path("runs/evaluate/comparison-2/report.html").is_file()


def test_every_question_of_the_lesson_has_its_answer_folded_below():
    questions = LESSON.text.split("**Question.**")[1:]
    assert len(questions) >= 8
    for question in questions:
        asked, _, answer = question.partition("<details><summary>Answer</summary>")
        assert "```" not in asked and len(answer.partition("</details>")[0].split()) > 20


def test_the_notebook_is_kept_without_outputs():
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 8 and all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom_and_shows_its_pictures(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(TREE))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    names = re.compile(r"\w+(?=[\w, ]* = )")
    assert names.findall(parameters.source) == names.findall(PARAMETERS)
    parameters.source = PARAMETERS
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data for output in outputs if output.output_type == "execute_result"]
    assert sum("image/png" in data for data in shown) == 6
    tables = [data["text/html"] for data in shown if "text/html" in data]
    assert len(tables) == 4 and all("<table" in table for table in tables)
    assert "k-NN accuracy" in tables[1] and "from-dense" in tables[3]
    assert {path.name for path in (tmp_path / "runs" / "finetune").iterdir()} == {"scratch", "from-dense"}
