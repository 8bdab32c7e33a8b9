import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from simclrseg.charts.chart import Chart, Line
from simclrseg.charts.html import Html, drawn, element
from simclrseg.charts.plots import write_grid
from simclrseg.evaluation.graphs import threshold_charts, training_charts
from simclrseg.evaluation.page import PICTURE_BYTES, page, picture, section, table
from simclrseg.evaluation.report import write_report
from simclrseg.evaluation.results import Evaluated, Report
from simclrseg.metadata import ModelMetadata
from simclrseg.scores import gallery
from simclrseg.scores.confidences import Confidences
from simclrseg.scores.estimates import class_rows, draws, over_split
from simclrseg.scores.intervals import Interval
from simclrseg.scores.pixels import Pixels
from simclrseg.scores.results import Estimate
from simclrseg.scores.wording import written as written_value
from simclrseg.targets.classify import scores as classification
from simclrseg.targets.segment.scores import SegmentationScores, best_threshold

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&.jpg"
SIZE = 48
MODEL = ModelMetadata(
    task="segmentation",
    encoder="cnn",
    classes=("background", EVIL),
    colours=((0, 0, 0), (255, 0, 0)),
    image_size=32,
    threshold=0.5,
)


class Parsed(HTMLParser):
    """All elements of a page with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


class Photos:
    """Photos of noise whose left halves are the foreground; counts how often each is read."""

    def __init__(self, images: int) -> None:
        self.keys = tuple(f"{index}-{EVIL}" for index in range(images))
        self.name = f"photos {EVIL}"
        self.bands = ("red", "green", "blue")
        self.read: list[int] = []

    def image(self, index: int) -> np.ndarray:
        self.read.append(index)
        return np.random.default_rng(index).integers(0, 256, (SIZE, 2 * SIZE, 3), np.uint8)

    def mask(self, index: int) -> np.ndarray:
        mask = np.zeros((SIZE, 2 * SIZE), np.uint8)
        mask[:, :SIZE] = 1
        return mask

    def blank(self, index: int) -> None:
        return None


def segmented(images: int = 20, *, name: str = "run", path: Path = Path("nowhere")) -> Evaluated:
    """A model that finds more of the foreground the higher the number of the image is."""
    photos = Photos(images)
    counts, asked = [], []
    for index in range(images):
        probability = np.full((SIZE, 2 * SIZE), 0.2, np.float32)
        probability[:, : 1 + SIZE * index // images] = 0.9
        counts.append(Pixels.of(probability, photos.mask(index), 0.5, 2))
    scores = counted(Pixels.stack(counts, 2), photos.keys)
    weights = draws(scores)

    def predict(batch: np.ndarray) -> np.ndarray:
        asked.append(len(batch))
        return np.full(batch.shape[:3], 0.7, np.float32)

    return Evaluated(
        kind="run",
        path=path,
        name=name,
        learner=asked,
        predict=predict,
        metadata=MODEL,
        target=SimpleNamespace(TASK="segmentation", dataset=photos),
        split="test",
        indices=tuple(range(images)),
        test_hash="1",
        batch_size=8,
        scores=scores,
        metrics=over_split(scores, weights),
        means=scores.means(weights),
        per_class=class_rows(scores, weights, ("background", EVIL)),
        origin={"encoder": EVIL, "data_ratio": 1.0},
        notes={"empty_masks": 0},
    )


def counted(pixels: Pixels, keys: tuple[str, ...] = ("a",), empty: float = 1.0) -> SegmentationScores:
    indices = tuple(range(len(keys)))
    return SegmentationScores(MODEL, keys, indices, (), Confidences.none(), {"original": pixels}, empty)


def classified(images: int, classes: int, path: Path = Path("nowhere")) -> Evaluated:
    """Photos of which every third was taken for the next class."""
    names = tuple(f"${number}_{EVIL}$" for number in range(classes))
    labels = np.arange(images) % classes
    predicted = np.where(np.arange(images) % 3 == 0, (labels + 1) % classes, labels)
    model = segmented(2)
    photos = Photos(images)
    sure = 0.5 + np.arange(images)[:, None] / 1000
    probabilities = np.where(np.eye(classes)[predicted] == 1, sure, (1 - sure) / (classes - 1)).astype(np.float32)
    metadata = ModelMetadata(task="classification", encoder="cnn", classes=names, image_size=32)
    sure = Confidences.of_images(probabilities, labels)
    indices = tuple(range(images))
    scores = classification.ClassificationScores(metadata, photos.keys, indices, (), sure, labels, probabilities)
    return replace(
        model,
        target=SimpleNamespace(TASK="classification", dataset=photos),
        metadata=metadata,
        indices=indices,
        scores=scores,
        path=path,
        means={},
        per_class=[{"class": name, "f1": 0.5} for name in names],
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, str]:
    """The report of one run that kept its curves."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "metrics.csv").write_text("epoch,train_loss,val_loss,val_iou\n1,0.9,0.8,0.3\n2,0.7,0.6,0.5\n")
    write_report(Report(folder, (segmented(path=folder),)))
    return folder, (folder / "report.html").read_text(encoding="utf-8")


def test_elements_are_closed_ids_are_unique_and_links_lead_somewhere(written):
    parsed = Parsed(written[1])
    assert not parsed.open
    ids = [attributes["id"] for _, attributes in parsed.found if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20
    targets = [attributes["href"] for _, attributes in parsed.found if attributes.get("href")]
    assert {target[1:] for target in targets} <= set(ids)
    assert all(
        attributes[name] in ids for _, attributes in parsed.found for name in ("aria-labelledby",) if name in attributes
    )
    assert set(re.findall(r"url\(#([^)]*)\)", written[1])) <= set(ids)


def test_nothing_is_fetched(written):
    parsed = Parsed(written[1])
    assert not re.search(
        r"https?:|//[a-z]|@import", written[1].replace("data:image/webp;base64,", "").split("<main")[0]
    )
    for tag, attributes in parsed.found:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/webp;base64,")), (tag, value)
        assert "http:" not in str(attributes) and "https:" not in str(attributes)
    policy = next(attributes["content"] for attributes in parsed.all("meta") if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_a_file_name_or_a_class_name_is_text_and_never_markup(written):
    parsed = Parsed(written[1])
    assert len(parsed.all("script")) == 1
    assert not any(name.startswith("on") for _, attributes in parsed.found for name in attributes)
    assert all(attributes["src"].startswith("data:image/webp") for attributes in parsed.all("img"))
    assert f"0-{EVIL}" in parsed.text
    assert sum(EVIL in (attributes["alt"] or "") for attributes in parsed.all("img")) == len(parsed.all("img"))


def test_only_the_pages_own_script_may_run(written):
    import base64
    import hashlib

    script = re.search(r"<script>(.*?)</script></body>", written[1], re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for a in Parsed(written[1]).all("meta") if a.get("http-equiv"))
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_page_can_be_read_by_ear_and_used_by_keyboard(written):
    parsed = Parsed(written[1])
    assert parsed.all("html") == [{"lang": "en"}]
    assert all(attributes.get("alt") for attributes in parsed.all("img"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in parsed.all("th"))
    assert all(a["role"] == "img" and a["aria-label"] for a in parsed.all("svg")) and len(parsed.all("svg")) == 3
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    assert all(attributes["type"] == "button" for attributes in parsed.all("button"))
    order = [tag for tag, _ in parsed.found if tag in ("h1", "h2", "h3")]
    assert order[0] == "h1" and order.count("h1") == 1
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in parsed.all("div") if a.get("class") == "scroll")


def test_headings_of_sortable_tables_are_buttons_that_say_the_order():
    parsed = Parsed(table([{"image": "a", "iou": 0.123456}], caption="all", sortable=True))
    headings = [a for a in parsed.all("th") if a["scope"] == "col"]
    assert [a["aria-sort"] for a in headings] == ["none", "none"] and len(parsed.all("button")) == 2
    assert [a.get("data-value") for a in parsed.all("td")] == ["0.123456"]
    assert not Parsed(table([{"image": "a"}], caption="all")).all("button")


def test_the_numbers_and_their_intervals_are_those_of_the_model(written):
    text = Parsed(written[1]).text
    found = segmented().metrics["iou"]
    assert f"{found.value:.4f}{found.interval}" in text
    assert "validation 0.3000 to 0.5000" in written[1]


def test_the_worst_images_come_first_and_are_files_too(written):
    folder, text = written
    model = segmented()
    bad, good = model.scores.bad_and_good()
    rows = model.scores.rows()
    values = [rows[row]["iou"] for row in (*bad, *good)]
    assert values == sorted(values) and bad[0] == 0 and len(bad) == len(good) == 10
    names = sorted(path.name for path in (folder / "worst").iterdir())
    assert len(names) == gallery.WORST and names[0].startswith("001-0-script-alert")
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names)
    assert text.index("Worst images") < text.index("Best images") < text.index("All images, the worst first")


def test_only_the_images_that_are_shown_are_read_again_in_one_batch(tmp_path):
    model = segmented(200)
    write_report(Report(tmp_path, (model,)))
    assert sorted(model.dataset.read) == [*range(gallery.WORST), *range(200 - gallery.BEST, 200)]
    assert model.learner == [gallery.WORST + gallery.BEST]  # calls of predict


def numbers(*examples: gallery.Example) -> list[int]:
    return [int(example.key.partition("-")[0]) for example in examples]


def ends(model: Evaluated) -> tuple[list[gallery.Example], list[gallery.Example]]:
    return gallery.worst_and_best(model.scores, model.dataset, model.predict)


def test_no_image_is_among_the_worst_and_the_best():
    for images in (1, 2, 5, 20):
        worst, best = ends(segmented(images))
        rows = numbers(*worst, *best)
        assert len(rows) == len(set(rows)) <= images and worst


def test_a_model_that_names_no_colours_is_shown_in_others():
    model = segmented(2)
    scores = replace(model.scores, metadata=MODEL.model_copy(update={"colours": ()}))
    model = replace(model, scores=scores)
    worst, _ = ends(model)
    assert not np.array_equal(worst[0].pictures[0][1], worst[0].pictures[1][1])


def test_errors_have_the_colour_of_their_kind():
    truth = np.array([[0, 0, 1, 1, 255, 2]])
    predicted = np.array([[0, 1, 0, 1, 1, 1]])
    shown = gallery.errors(np.zeros((1, 6, 3), np.uint8), truth, predicted)[0]
    grey, white = (128, 128, 128), (255, 255, 255)
    assert [tuple(pixel) for pixel in shown.tolist()] == [
        grey,
        gallery.ALARM,
        gallery.MISSED,
        grey,
        white,
        gallery.MIXED,
    ]


def test_of_photos_those_that_were_wrong_and_sure_are_the_worst(tmp_path):
    model = classified(30, 4)
    worst, best = ends(model)
    assert numbers(*worst) == [27, 24, 21, 18, 15, 12]
    assert numbers(*best) == [29, 28, 26]
    write_report(Report(tmp_path, (model,)))
    parsed = Parsed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not parsed.open and "Confusion: each row is a true class" in parsed.text


def test_of_many_classes_the_most_confused_ones_are_named(tmp_path):
    write_report(Report(tmp_path, (classified(300, 100),)))
    text = Parsed((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "Classes that are confused most" in text and "Confusion: each row" not in text


def test_several_models_are_compared_in_one_table_with_one_row_an_image(tmp_path):
    models = (segmented(name="first"), segmented(name=EVIL))
    differences = {EVIL: models[0].metrics}
    write_report(Report(tmp_path, models, "first", differences))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    parsed = Parsed(text)
    assert not parsed.open and len(parsed.all("script")) == 1
    assert "IoU over first" in parsed.text and f"{EVIL} IoU" in parsed.text and "**" not in parsed.text
    ids = [attributes["id"] for _, attributes in parsed.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {path.name for path in (tmp_path / "worst").iterdir()} == {"model-1", "model-2"}


def test_where_models_are_compared_lines_break_between_values_and_long_names_anywhere():
    row = {
        "name": "a",
        "IoU over a_model_with_a_long_name": "+0.1 [+0.0, +0.2]",
        "pretrained": "a_long_name_of_a_start",
    }
    text = table([row | {"F1": 0.5}], caption="c", sortable=True, compared=True)
    assert '<table class="sortable compared">' in text
    assert '<th scope="col" class="wide" aria-sort="none"><button type="button">IoU over a' in text
    assert '<td>+0.1 [+0.0, +0.2]</td><td class="wide">a_long_name' in text
    assert 'class="number" data-value="0.5">' in text
    assert "wide" not in table([row], caption="c") and "compared" not in table([row], caption="c")


def test_the_best_of_a_column_is_bold(tmp_path):
    one, other = segmented(name="one"), segmented(name="other")
    worse = Estimate(other.metrics["iou"].value / 2)
    models = (replace(one, metrics={"iou": worse}), replace(other, metrics={"iou": other.metrics["iou"]}))
    write_report(Report(tmp_path, models, "one", {"other": {"iou": worse}}))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    comparison = text[text.index("Models by IoU") : text.index("“IoU over one”")]
    assert re.findall("<strong>(.*?)</strong>", comparison) == [str(other.metrics["iou"])]


def test_a_model_without_a_value_comes_last_and_is_not_the_best(tmp_path):
    nothing, one = Estimate(float("nan")), segmented(name="one")
    empty = replace(segmented(name="empty"), metrics={"iou": nothing})
    report = Report(tmp_path, (empty, replace(one, metrics={"iou": Estimate(0.5)})), "empty", {"one": {"iou": nothing}})
    table, best = report.table
    assert [row["name"] for row in table] == ["one", "empty", "(without learning)"] and best == {(0, "IoU")}
    assert "nan" not in report.markdown()
    none = Report(tmp_path, (empty, replace(empty, name="other")), "empty", {"other": {"iou": nothing}})
    assert none.table[1] == set()


def test_rows_of_a_damaged_history_are_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_bytes(b"epoch,val_iou\nx,y\n1,0.5\n2\n\xff,\n3,0.25\n")
    (chart,) = training_charts(Report(tmp_path, (segmented(1, path=tmp_path),)))
    assert [(line.x, line.y) for line in chart.lines] == [([1, 3], [0.5, 0.25])]


def test_the_chart_names_the_threshold_that_is_the_best_one():
    mask = np.eye(8, dtype=np.uint8)
    pixels = Pixels.of(mask.astype(np.float32), mask, 0.5, 2)  # sure and right: every threshold is as good
    scores = counted(pixels)
    (chart,) = threshold_charts(replace(segmented(1), scores=scores))
    assert f"at {best_threshold(scores):g};" in chart.description and "1.0000, at 0.5;" in chart.description
    nothing = counted(Pixels.of(0.0 * mask, 0 * mask, 0.5, 2), empty=np.nan)
    assert threshold_charts(replace(segmented(1), scores=nothing)) == []


def test_a_report_of_500_images_of_noise_is_far_below_10_mb(tmp_path):
    write_report(Report(tmp_path, (segmented(500),)))
    assert (tmp_path / "report.html").stat().st_size < 2_000_000


def test_one_image_has_no_interval_and_says_so(tmp_path):
    write_report(Report(tmp_path, (segmented(1),)))
    text = Parsed((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "no interval" in text and "1 photo of" in text


def test_a_picture_of_noise_stays_below_the_limit():
    noise = np.random.default_rng(0).integers(0, 256, (gallery.SIDE, gallery.SIDE, 3), np.uint8)
    source = Parsed(picture(noise, alt="noise")).all("img")[0]["src"]
    assert 1_000 < len(source) * 3 / 4 <= PICTURE_BYTES + 100


def test_charts_take_the_colours_of_the_page_and_are_the_same_twice():
    chart = Chart("$a_b$", "<x>", "y", [Line("<one>", [0, 1], [0, 1]), Line("two", [0, 1], [1, 0])], "two lines")
    svg = drawn([chart], "here")
    assert svg == drawn([chart], "here")
    assert "currentColor" in svg and "var(--series-2)" in svg and "$a_b$" in svg
    assert not re.search(r"#0[14]0[25]0[36]|#0a0b0|http|<metadata|<style|<!--", svg)
    assert not Parsed(svg).open


def test_text_is_escaped_unless_it_is_markup():
    assert element("p", "<b>", Html("<i></i>"), title='"') == '<p title="&quot;">&lt;b&gt;<i></i></p>'
    whole = page("<t>", "<s>", [section("<h>", "one", "<x>")])
    assert json.dumps(Parsed(whole).text).count("<") == 6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (True, "yes"),
        (3669, "3,669"),
        (0.5, "0.5000"),
        ("a", "a"),
        (Interval(0.25, 0.75), "[0.2500, 0.7500]"),
        (Estimate(0.5, Interval(0.25, 0.75)), "0.5000 [0.2500, 0.7500]"),
    ],
)
def test_a_value_is_written_in_one_way(value, text):
    assert written_value(value) == text


def test_a_fact_has_no_more_digits_than_it_needs():
    assert (written_value(0.5, ".4g"), written_value(1.0, ".4g"), written_value(1 / 3, ".4g")) == ("0.5", "1", "0.3333")


def test_a_score_of_strangers_stands_with_its_interval(tmp_path):
    class Found:
        def facts(self):
            return {"strangers": {"auroc": 0.9}}

        def rows(self):
            return [{"dataset": "strangers", "auroc": 0.9, "auroc_low": 0.8, "auroc_high": 0.95}]

        @property
        def picture(self):
            return tmp_path / "ood.png"

    write_grid([[np.zeros((100, 100, 3), np.uint8)]], tmp_path / "ood.png")
    model = segmented(2)
    model.findings["ood"] = Found()
    write_report(Report(tmp_path, (model,)))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "AUROCstrangers0.9000 [0.8000, 0.9500]" in Parsed(text).text
    assert '<td class="whole">0.9000 [0.8000, 0.9500]</td>' in text  # on one line
    region = '<div class="scroll" tabindex="0" role="region" aria-label="Out of distribution of run">'
    assert f'<figure class="drawn">{region}<img' in text  # a phone has no room for it
