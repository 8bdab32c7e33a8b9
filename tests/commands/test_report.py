from pathlib import Path

from simclrseg.commands.evaluate import evaluate
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.scores.gallery import WORST
from tests.small import in_runs


def test_evaluate_leaves_a_page_with_its_numbers_curves_and_worst_images(pipeline):
    asked = {"data": {"models": [str(pipeline.finetuned["run"])]}}
    result = evaluate(EvaluateConfig.model_validate(in_runs(asked, pipeline.runs)))
    folder = Path(result["report"])
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert f"<dd>{result['metrics']['iou']:.4f}</dd>" in text
    for title in ("Results", "Confidence and threshold", "Worst images", "Training", "All images"):
        assert f">{title}</h2>" in text
    assert 1 <= len(list((folder / "worst").iterdir())) <= WORST
