"""The pictures that a run leaves."""

from __future__ import annotations

import numpy as np
from PIL import Image

from simclrseg.charts import plots
from simclrseg.charts.chart import Chart, Line, shortened
from simclrseg.charts.html import drawn
from simclrseg.training.curves import training_curves


def test_a_grid_has_every_tile_in_its_place(tmp_path):
    tiles = [[np.full((96, 100, 3), 10 * (3 * i + j), np.uint8) for j in range(3)] for i in range(2)]
    plots.write_grid(tiles, tmp_path / "grid.png")
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    step = plots.GAP
    assert grid.shape == (2 * 96 + step, 3 * 100 + 2 * step, 3)
    for i in range(2):
        for j in range(3):
            y, x = i * (96 + step), j * (100 + step)
            assert (grid[y : y + 96, x : x + 100] == tiles[i][j]).all()


def test_curves_are_drawn_from_the_csv_even_with_gaps(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "epoch,step,train_loss,train_chance,val_iou,val_loss\n1,10,2.5,4.8,,\n2,20,2.0,4.8,0.5,0.7\n"
    )
    plots.charts(training_curves(tmp_path / "metrics.csv", {}), tmp_path / "curves.png")
    image = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    assert image.shape[1] > image.shape[0] > 100
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50  # something was drawn


def test_a_run_without_epochs_still_has_a_picture(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,train_loss\n")
    plots.charts(training_curves(tmp_path / "metrics.csv", {}), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_small_tiles_are_enlarged_and_columns_can_have_headings(tmp_path):
    tiles = [[np.full((32, 32, 3), 100, np.uint8)] * 2]
    plots.write_grid(tiles, tmp_path / "grid.png", headings=("photo", "truth"))
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (plots.HEADING + 96, 2 * 96 + plots.GAP, 3)
    assert (grid[plots.HEADING :, :96] == 100).all()
    assert grid[: plots.HEADING].min() < 100  # there is something to read


def test_the_loss_of_knowing_nothing_is_a_dotted_line_beside_the_loss(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "epoch,step,train_loss,train_mean_fill,val_dice,val_iou\n1,10,0.5,0.9,,\n2,20,0.4,0.9,0.8,0.7\n"
    )
    loss, iou = training_curves(tmp_path / "metrics.csv", {})
    assert [(line.label, line.dotted) for line in loss.lines] == [("training", False), ("mean fill", True)]
    assert (loss.title, iou.title) == ("loss", "IoU, validation")  # dice is f1 by another name
    assert (iou.lines[0].x, iou.lines[0].y) == ([2], [0.7])


def test_what_knowing_nothing_has_of_a_quantity_is_a_dotted_line_beside_it(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,train_top1,train_top1_chance\n1,10,0.1,0.01\n2,20,0.2,0.01\n")
    (top1,) = training_curves(tmp_path / "metrics.csv", {})
    assert [(line.label, line.y, line.dotted) for line in top1.lines] == [
        ("training", [0.1, 0.2], False),
        ("chance", [0.01, 0.01], True),
    ]


def test_curves_say_what_is_good_what_chance_is_and_which_epoch_was_the_best(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "epoch,step,train_loss,train_chance,val_iou,val_loss,train_own_number\n"
        "1,10,2.5,4.844,0.4,2.6,7\n2,20,2.0,4.844,0.6,2.2,8\n3,30,1.5,4.844,0.5,2.4,9\n"
    )
    loss, iou, own = training_curves(tmp_path / "metrics.csv", {"iou": 0.1})
    assert loss.hint == "lower is better; 4.84 is chance; a rise in validation is overfitting"
    assert (iou.hint, iou.y, iou.title) == ("higher is better", "from 0 to 1", "IoU")
    assert [(line.label, line.x, line.y) for line in iou.lines[1:]] == [("before", [1, 3], [0.1, 0.1])]
    assert (own.hint, own.title) == ("", "own number, training")
    assert loss.mark == iou.mark == (2, "best epoch: 2")
    texts = drawn([loss, iou], "here")
    for text in (">chance 4.844<", ">before 0.1<", ">best epoch: 2<", f">{loss.hint}<", ">from 0 to 1<"):
        assert text in texts
    assert ">chance<" not in texts  # it is named where it is, once


def test_no_epoch_is_called_the_best_where_validation_is_too_small_to_say(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,val_iou\n1,10,0.6\n2,20,0.4\n")
    assert [chart.mark for chart in training_curves(tmp_path / "metrics.csv", {})] == [(1, "best epoch: 1")]
    assert [chart.mark for chart in training_curves(tmp_path / "metrics.csv", {}, chosen=False)] == [None]


def test_one_epoch_has_a_whole_number_on_its_axis_and_a_level_that_is_seen(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,train_loss,train_chance\n1,10,2.5,4.8\n")
    (loss,) = training_curves(tmp_path / "metrics.csv", {})
    assert loss.mark is None and ">chance 4.8<" in (text := drawn([loss], "here"))
    assert ">1<" in text and ">1.02<" not in text and ">0.98<" not in text


def test_places_are_small_crosses_in_colours_of_their_own_also_at_the_edge():
    picture = np.full((64, 64, 3), 200, np.uint8)
    plots.mark_places(picture, np.array([[0.5, 0.25], [1.0, 1.0], [0.0, 0.5]]))
    for place, (x, y) in enumerate([(32, 16), (63, 63), (0, 32)]):
        assert (picture[y, x] == plots.MARKS[place]).all()
    assert (picture[16, 29] == 0).all() and (picture[16, 28] == 200).all() and (picture[18, 34] == 200).all()
    assert (picture == 200).all(2).mean() > 0.95
    plots.mark_places(picture, np.full((50, 2), 0.5))  # more than there are colours


def test_a_chart_is_the_same_as_png_and_as_svg(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    seen = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axes, *a, **k: seen.append((a, k["label"])) or plot(axes, *a, **k))
    line = Line("one", [0.1, 1], [0.5, 0.7], bars=[(0.1, 0.5, 0.4, 0.6), (1, 0.7, 0.6, 0.8)])
    chart = Chart("t", "x", "y", [line, Line("two", [0, 1], [1, 1], dotted=True)], "both")
    plots.charts([chart, chart], tmp_path / "a.png")
    drawn([chart], "here")
    assert seen[:2] == seen[2:4] == seen[4:] and [label for _, label in seen[:2]] == ["one", "two"]
    assert (tmp_path / "a.png").is_file()


def test_pictures_of_an_evaluation_are_written_whatever_is_missing(tmp_path):
    plots.charts([], tmp_path / "a.png")
    same = {"msp": {"own": np.zeros(3), "others": np.zeros(2)}}
    plots.histograms(same, tmp_path / "b.png")
    points = {"before": np.zeros((4, 2)), "after": np.arange(8.0).reshape(4, 2)}
    plots.scatter(points, np.zeros(4, int), (), tmp_path / "c.png")
    plots.scatter(points, np.array([0, 1, 24, 2]), [str(number) for number in range(25)], tmp_path / "d.png")
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG" and min(image.size) > 200
    assert len(list(tmp_path.iterdir())) == 4


def test_of_many_classes_the_frequent_ones_have_names_and_colours_of_their_own(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    legends = []
    monkeypatch.setattr(Figure, "legend", lambda figure, handles, names, **kwargs: legends.append((handles, names)))

    def drawn(ids: list[int]) -> tuple[list[tuple[float, ...]], list[str]]:
        plots.scatter({"a": np.zeros((len(ids), 2))}, np.array(ids), [f"c{i}" for i in range(50)], tmp_path / "a.png")
        handles, names = legends.pop()
        return [tuple(handle.get_facecolor()[0]) for handle in handles], names

    colours, names = drawn([7, 3, 3, 49])
    assert names == ["c3", "c7", "c49"] and len(set(colours)) == 3  # those that occur
    colours, names = drawn([*range(30), *range(5, 24)])
    assert names == [*(f"c{number}" for number in range(5, 24)), "11 others"]
    assert len(set(colours)) == 20 and not any(red == green == blue != 0 for red, green, blue, _ in colours[:-1])
    red, green, blue, _ = colours[-1]
    assert red == green == blue


def test_the_legend_of_long_names_leaves_room_for_the_plot(tmp_path):
    names = [f"/{'a-long-folder/' * 20}photos-{number}" for number in range(3)]
    plots.histograms({"msp": {name: np.arange(9.0) for name in names}}, tmp_path / "h.png")
    plots.charts([Chart("t", "x", "y", [Line(name, [0, 1], [0, 1]) for name in names], "")], tmp_path / "r.png")
    assert (tmp_path / "h.png").is_file() and (tmp_path / "r.png").is_file()  # matplotlib's warnings are errors here
    assert shortened(names[0]).endswith("-folder/photos-0") and len(shortened(names[0])) == 32
