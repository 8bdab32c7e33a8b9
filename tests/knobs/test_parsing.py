"""Configs from files: what is refused, in which words, and what is written."""

from __future__ import annotations

import pytest
import yaml

from simclrseg.config import CONFIGS
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.predict import PredictConfig
from simclrseg.config.pretrain import PretrainConfig, PretrainTraining
from simclrseg.data.datasets import DATASETS
from simclrseg.engine import OPTIMIZERS
from simclrseg.errors import RunError, UsageError
from simclrseg.exporters import FORMATS
from simclrseg.inference import OUTPUTS
from simclrseg.knobs.knob import attribute_docstring, command_of, knobs_of
from simclrseg.knobs.parsing import config_of_run, dump_config, parse_config, parse_config_file
from simclrseg.losses import LOSSES
from simclrseg.metadata import ModelMetadata
from simclrseg.methods import METHODS
from simclrseg.models import SEGMENTERS
from simclrseg.training.knobs import FinetuneTraining
from tests.cli.small import Optim, TrainConfig

GOOD = {"data": {"dataset": ["a"]}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"data": {"datset": ["a"]}}, "x.yaml: unknown key 'data.datset': did you mean 'data.dataset'?; --dataset is"),
        (GOOD | {"optim": {"epoch": 3}}, "x.yaml: unknown key 'optim.epoch': did you mean 'optim.epochs'?"),
        (GOOD | {"epoch": 3}, "x.yaml: unknown key 'epoch': did you mean 'optim.epochs'?"),
        (GOOD | {"optm": {"epochs": 3}}, "x.yaml: unknown key 'optm': did you mean 'optim'?"),
        (GOOD | {"optim": 3}, "x.yaml: optim must hold keys: model, optimizer, clip"),
        (GOOD | {"optim": {"epochs": "many"}}, "x.yaml: optim.epochs 'many': must be a whole number with x >= 1"),
        (GOOD | {"optim": {"epochs": [3]}}, "x.yaml: optim.epochs [3]: must be a whole number with x >= 1"),
        (
            GOOD | {"optim": {"model": "smal"}},
            "x.yaml: optim.model 'smal': must be one of small, large; did you mean",
        ),
        (GOOD | {"optim": {"batch": 7}}, "x.yaml: optim.batch: 7 is odd"),
        (GOOD | {"optim": {"epochs": 3, "warmup": 4}}, "x.yaml: warmup (4) must be below epochs (3)"),
        ({"data": {"dataset": [3]}}, "x.yaml: data.dataset 3: must be a list, each item text; put it in quotes"),
        ({"data": None}, "--dataset is needed"),
        ({}, "--dataset is needed"),
    ],
)
def test_a_wrong_file_gets_one_line_that_names_the_key(tree, message):
    with pytest.raises(UsageError) as error:
        parse_config(TrainConfig, tree, source="x.yaml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_number_too_few_is_a_wrong_value_and_no_missing_knob():
    with pytest.raises(UsageError, match=r"^x\.yaml: consistency\.ramp \[0\.1\]: must be 2 values, each a number"):
        parse_config(FinetuneConfig, {"consistency": {"ramp": [0.1]}}, source="x.yaml")


def test_a_value_of_the_command_line_is_named_by_its_flag():
    with pytest.raises(UsageError, match=r"^--clip '0': .*; x\.yaml: optim\.epochs 0: "):
        parse_config(TrainConfig, GOOD | {"optim": {"epochs": 0}}, source="x.yaml", given={("optim", "clip"): "0"})


def test_a_list_of_one_may_be_written_without_brackets():
    assert parse_config(TrainConfig, {"data": {"dataset": "a"}}).data.dataset == ["a"]


def test_the_tree_that_is_given_is_not_changed():
    tree = {"data": {"dataset": "a"}}
    parse_config(TrainConfig, tree, given={("optim", "epochs"): "3"})
    assert tree == {"data": {"dataset": "a"}}


def test_a_dumped_config_is_read_back_equal(tmp_path):
    config = parse_config(TrainConfig, GOOD | {"optim": {"clip": None, "epochs": 3, "micro": 4}})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert parse_config_file(TrainConfig, tmp_path / "config.yaml") == config


def test_a_dumped_config_says_its_command_and_leaves_out_what_belongs_to_one_call():
    config = parse_config(TrainConfig, GOOD | {"output": {"overwrite": True, "as_json": True}})
    tree = yaml.safe_load(dump_config(config))
    assert list(tree) == ["command", "data", "optim"]
    assert tree["command"] == "train"


def test_a_dumped_config_has_the_keys_of_the_help_in_its_order_but_those_of_other_methods():
    tree = yaml.safe_load(dump_config(parse_config(PretrainConfig, {"data": {"dataset": "shapes"}})))
    keys = [(section, key) for section, values in tree.items() if section != "command" for key in values]
    others = METHODS.keys() - {"simclr"}
    assert keys == [knob.path for knob in knobs_of(PretrainConfig) if not (knob.transient or knob.path[0] in others)]


def test_the_command_of_a_config_is_in_its_name():
    assert command_of(FinetuneConfig) == "finetune"


def test_docstrings_below_fields_are_found_in_the_source_too():
    assert attribute_docstring(Optim, "epochs") == "Passes."
    assert attribute_docstring(Optim, "nothing") == ""


@pytest.mark.parametrize("command", CONFIGS)
def test_every_knob_says_what_it_means(command):
    for knob in knobs_of(CONFIGS[command]):
        assert knob.help.endswith("."), knob.key
        assert knob.values.kinds or knob.values.choices, knob.key


@pytest.mark.parametrize("training", [PretrainTraining, FinetuneTraining])
def test_every_optimizer_has_a_learning_rate_of_its_own(training):
    assert set(training.DEFAULT_RATES) == set(OPTIMIZERS)
    for name, rate in training.DEFAULT_RATES.items():
        assert training(optimizer=name).peak_rate == rate
        assert f"{rate:g}" in next(knob.help for knob in knobs_of(training) if knob.path[-1] == "learning_rate")
        assert training(optimizer=name, learning_rate=0.5).peak_rate == 0.5


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        ({"reconstruction": {"cut_share": 0.3}}, "cut_share"),
        ({"reconstruction": {"held_out": 0.2}}, "held_out"),
        ({"reconstruction": {"loss_pixels": "cut"}}, "loss_pixels"),
        ({"model": {"method": "reconstruction"}, "simclr": {"temperature": 0.5}}, "temperature"),
        ({"model": {"method": "reconstruction"}, "simclr": {"projection_hidden": [64, 64]}}, "projection_hidden"),
    ],
)
def test_a_knob_of_another_method_is_refused(tree, name):
    with pytest.raises(UsageError, match=f"{name} is for method .* and has no meaning for method .*: leave it out"):
        parse_config(PretrainConfig, {**tree, "data": {"dataset": ["shapes"], **tree.get("data", {})}})


def test_a_run_that_was_made_with_such_a_knob_keeps_it(tmp_path):
    """As those of earlier versions, where it was taken in silence."""
    config = parse_config(PretrainConfig, {"data": {"dataset": ["shapes"]}})
    (tmp_path / "config.yaml").write_text(dump_config(config) + "reconstruction:\n  cut_share: 0.3\n")
    assert config_of_run(PretrainConfig, tmp_path).reconstruction.cut_share == 0.3
    tree = {"data": {"dataset": ["shapes"], "cut_share": 0.3}}
    assert parse_config(PretrainConfig, tree, given={("run", "resume"): "r"}).reconstruction.cut_share == 0.3
    with pytest.raises(UsageError, match=r"leave it out, or where a file sets it, give 0\.5$"):
        parse_config(PretrainConfig, tree)


@pytest.mark.parametrize("key", PretrainConfig.MOVED)
def test_a_file_of_an_earlier_version_is_read(key):
    section, name = key.split(".")
    new, _ = PretrainConfig.MOVED[key].split(".")
    default = getattr(parse_config(PretrainConfig, {"data": {"dataset": "shapes"}}), new)
    value = {"loss_pixels": "cut", "projection_hidden": [7], "projection_dim": 7, "cut_side": 7}.get(name, 0.4)
    tree = {"data": {"dataset": "shapes"}, "model": {"method": new}}
    tree.setdefault(section, {})[name] = value
    assert getattr(parse_config(PretrainConfig, tree), new) == default.model_copy(update={name: value})


def test_a_key_may_stand_outside_its_section():
    config = parse_config(PretrainConfig, {"dataset": "shapes", "temperature": 0.4, "epochs": 3})
    assert (config.data.dataset, config.simclr.temperature, config.training.epochs) == (["shapes"], 0.4, 3)
    with pytest.raises(UsageError, match=r"unknown key 'epoch': did you mean 'training\.epochs'"):
        parse_config(PretrainConfig, {"dataset": "shapes", "epoch": 3})


def test_a_run_without_a_configuration_is_named(tmp_path):
    with pytest.raises(RunError, match="so that nobody knows what the run was"):
        config_of_run(PretrainConfig, tmp_path)


def test_what_tables_hold_is_in_the_help():
    knobs = {(command, knob.name): knob for command in CONFIGS for knob in knobs_of(CONFIGS[command])}
    for command in ("pretrain", "finetune", "evaluate"):
        assert f"Names: {', '.join(DATASETS)}." in knobs[command, "dataset"].help
    assert f"Names: {', '.join(LOSSES)}; with a number: focal:gamma." in knobs["finetune", "loss"].help
    assert all(method.ABOUT in knobs["pretrain", "method"].help for method in METHODS.values())
    assert set(knobs["pretrain", "method"].values.choices) == set(METHODS)
    assert [*SEGMENTERS] == knobs["finetune", "decoder"].values.choices
    assert [*OUTPUTS] == knobs["predict", "outputs"].values.choices
    assert all(form.suffix in knobs["export", "format"].help for form in FORMATS.values())
    suffixes = {suffix for output in OUTPUTS.values() for suffix in output.suffixes}
    assert all(suffix in knobs["predict", "output"].help for suffix in suffixes)


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_has_one_of_its_suffixes(name):
    output = OUTPUTS[name]
    for classes in (("a", "b"), ("a", "b", "c")):
        assert (
            output.ending(ModelMetadata(task="segment", encoder="cnn", image_size=32, classes=classes))
            in output.suffixes
        )


def test_a_key_that_several_sections_have_is_refused_with_their_names():
    class Other(Optim):
        """Other"""

    class TwoConfig(TrainConfig):
        other: Other = Other()

    with pytest.raises(
        UsageError, match=r"^x\.yaml: epochs: could be optim\.epochs or other\.epochs; write the whole key$"
    ):
        parse_config(TwoConfig, GOOD | {"epochs": 3}, source="x.yaml")
    assert parse_config(TwoConfig, GOOD | {"other": {"epochs": 3}, "ratio": 0.5}).other.epochs == 3


def test_a_key_of_several_methods_is_that_of_the_chosen_one():
    tree = {"dataset": "shapes", "method": "reconstruction", "cut_share": 0.3, "epochs": 3}
    config = parse_config(PretrainConfig, tree)
    assert (config.reconstruction.cut_share, config.training.epochs, config.data.dataset) == (0.3, 3, ["shapes"])


def test_several_items_of_a_list_in_one_word_are_asked_for_one_by_one():
    with pytest.raises(UsageError, match=r"'mask,overlay': must be a list, .*; give each its own --as$"):
        parse_config(PredictConfig, {}, given={("console", "outputs"): ["mask,overlay"]})
