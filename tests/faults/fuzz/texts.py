"""Damaged configs, classes and normalization files, command lines, answers of the Hub, and records of runs."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import typer

from simclrseg.cli.app import app
from simclrseg.cli.words import print_config
from simclrseg.config import CONFIGS
from simclrseg.config.files import PRESETS
from simclrseg.data.normalization import read_normalization
from simclrseg.knobs.knob import Knob, knobs_of
from simclrseg.labels.classes import classes_beside, read_classes
from simclrseg.metadata import ModelMetadata
from tests.faults.fuzz.harness import Source
from tests.faults.fuzz.mutations import NUMBERS, WORDS, bytes_of, json_of, text_of, yaml_of
from tests.folders import write

_SHELLS = ("bash", "zsh", "fish", "powershell")


def command_line(words: list[str]) -> Any:
    """What the command line makes of words; its exit code."""
    return app(words, prog_name="simclrseg", standalone_mode=False)


def configs(folder: Path) -> Source:
    """Files behind ``--config``, of every command, checked and printed."""
    import yaml

    texts = {
        path.read_text(): "pretrain" if "command: pretrain" in path.read_text() else "finetune"
        for path in PRESETS.values()
    }
    for command in CONFIGS:
        texts[print_config(CONFIGS[command], {"config_file": None})] = command
    seeds = [(command, text, yaml.safe_load(text)) for text, command in texts.items()]
    others = list(texts)
    file = folder / "config.yaml"

    def make(rng: Random) -> list[str]:
        command, text, tree = rng.choice(seeds)
        bare = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
        file.write_bytes(json_of(rng, tree) if rng.random() < 0.6 else text_of(rng, bare, others))
        return [command, "--config", str(file), "--print-config"]

    return Source(make, command_line)


_CLASSES = (
    "background: [0, 0, 0]\nroad: '#804080'\nignore: [255, 255, 255]\n",
    "- background\n- cat\n- dog\n",
    '{"background": [0, 0, 0], "road": [128, 64, 128], "car": "#0000ff"}',
    "# label:color_rgb:parts:actions\nroad:128,64,128::\nbackground:0,0,0::\n",
    "background:\ncat:\nno:\nignore:\n",
)
_TABLE = "Pixel Value, Class\n0, background\n1, cat\n2, dog\n"


def classes(folder: Path) -> Source:
    """Files of classes, and the tables of Roboflow."""
    file, table = folder / "classes.yaml", folder / "_classes.csv"
    trees: tuple[Any, ...] = ({"background": [0, 0, 0], "road": "#804080", "ignore": [255] * 3}, ["background", "cat"])

    def make(rng: Random) -> Path | str:
        if rng.random() < 0.2:
            table.write_bytes(text_of(rng, _TABLE))
            return table
        data = yaml_of(rng, rng.choice(trees)) if rng.random() < 0.5 else text_of(rng, rng.choice(_CLASSES), _CLASSES)
        text = data.decode("utf-8", "surrogateescape")
        if text.startswith("{") and rng.random() < 0.3:
            return text
        file.write_bytes(data)
        return file

    def read(given: Path | str) -> None:
        found = classes_beside(table) if given == table else read_classes(str(given))
        if found is not None:
            assert 2 <= len(found.names) <= 254 and len(set(found.names)) == len(found.names)
            assert len(found.colours) in (0, len(found.names))
            assert all(0 <= level <= 255 for colour in found.ids for level in colour)
            assert read_classes(found.text) == found

    return Source(make, read)


def normalizations(folder: Path) -> Source:
    """Files of means and standard deviations."""
    tree = {"mean": [0.4, 0.5, 0.4], "std": [0.2, 0.2, 0.3]}
    texts = ("mean: [0.4, 0.4, 0.4]\nstd: [0.2, 0.2, 0.2]\n", "mean:\n- 0.4\nstd:\n- 2.0e-1\n")
    file = folder / "figures.yaml"

    def make(rng: Random) -> str:
        data = yaml_of(rng, tree) if rng.random() < 0.6 else text_of(rng, rng.choice(texts), texts)
        text = data.decode("utf-8", "surrogateescape")
        if text.startswith("{") and rng.random() < 0.3:
            return text
        file.write_bytes(data)
        return str(file)

    def read(given: str) -> None:
        found = read_normalization(given)
        assert len(found.mean) == len(found.std) > 0 and np.isfinite([*found.mean, *found.std]).all()
        assert read_normalization(found.text) == found

    return Source(make, read)


def commands(folder: Path) -> Source:
    """Command lines of all commands, as far as the command itself."""
    knobs = {command: knobs_of(CONFIGS[command]) for command in CONFIGS}
    write(folder / "photos" / "a.png", np.zeros((8, 8, 3), np.uint8))
    (folder / "config.yaml").write_text(print_config(CONFIGS["pretrain"], {"config_file": None}))
    files = (
        "photos",
        "photos/a.png",
        "config.yaml",
        "none.png",
        "runs",
        ".",
        "voc",
        "pets",
        "resnet18",
        "ce+dice:2",
        "2/5",
    )

    def value(rng: Random, knob: Knob) -> str:
        kinds = [list(map(str, knob.values.choices))] if knob.values.choices else []
        kinds += [files, WORDS, list(map(str, NUMBERS)), [str(knob.info.default)], ["1", "2", "8", "0.5", "none"]]
        word = rng.choice(rng.choice(kinds))
        return word + rng.choice(WORDS) if rng.random() < 0.1 else word

    def make(rng: Random) -> list[str]:
        command = rng.choice([*CONFIGS, "--show-completion"] if rng.random() < 0.05 else list(CONFIGS))
        if command not in knobs:
            return [command, rng.choice((*_SHELLS, *WORDS))]
        words = [command]
        for _ in range(rng.choice((1, 2, 3, 6))):
            knob = rng.choice(knobs[command])
            match rng.randrange(10):
                case 0:
                    words.append(rng.choice((*files, *WORDS)))
                case 1:
                    words += ["--set", f"{rng.choice((knob.key, knob.name, *WORDS[:30]))}={value(rng, knob)}"]
                case 2:
                    words += [rng.choice(("--config", "-c")), rng.choice((*PRESETS, *files, *WORDS))]
                case 3:
                    words.append(
                        rng.choice(("--print-config", "--json", "-q", "--help", "--help-all", "--dry-run", "--x"))
                    )
                case _ if knob.is_flag:
                    words.append(rng.choice([*knob.spellings, knob.negation or "--no"]))
                case _:
                    words.append(rng.choice(knob.spellings) if knob.spellings else "--")
                    words += [value(rng, knob) for _ in range(knob.values.length or 1)]
        if rng.random() < 0.1:
            words[rng.randrange(len(words))] += rng.choice(WORDS)
        return [word.replace("\0", "") for word in words]  # which no process gets

    def read(words: list[str]) -> Any:
        with no_work():
            return command_line(words)

    return Source(make, read)


@contextmanager
def no_work() -> Iterator[None]:
    """Let every command end where it would begin its work."""

    def stop(*_: Any, **__: Any) -> None:
        raise typer.Exit

    modules = {}
    for command in (*CONFIGS, "inspect"):
        name = f"simclrseg.commands.{command}"
        modules[name] = ModuleType(name)
        setattr(modules[name], command, stop)
    with mock.patch.dict(sys.modules, modules), mock.patch("simclrseg.cli.app.launch"):
        yield


def hub(folder: Path) -> Source:
    """Answers of the Hub to ``pull --dry-run`` and ``pull``: statuses, headers and bodies."""
    import huggingface_hub
    from huggingface_hub import constants

    from tests.fake_hub import FakeHub

    server = FakeHub()
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_CACHE": str(folder / "hf" / "hub"),
        "HF_TOKEN_PATH": str(folder / "hf" / "token"),
    }.items():
        setattr(constants, name, value)
    huggingface_hub.close_session()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    content = b"not weights"
    commit, sha = "0" * 40, hashlib.sha256(content).hexdigest()
    headers = {"X-Repo-Commit": commit, "ETag": f'"{sha}"', "X-Linked-Etag": f'"{sha}"', "X-Linked-Size": "11"}
    model = {"id": "a/b", "sha": commit, "siblings": [{"rfilename": "model.safetensors"}, {"rfilename": "x.json"}]}
    answers: dict[str, Any] = {}

    def answer(handler: Any) -> None:
        handler.body()
        if handler.path.startswith("/api/"):
            status, more, body = answers["model"]
        else:
            status, more, body = answers["file"]
        handler.send(status, body, more)

    server.answer = answer  # type: ignore[method-assign]
    statuses = (200, 200, 200, 204, 206, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 408, 416, 418, 429, 451)

    def make(rng: Random) -> list[str]:
        shutil.rmtree(folder / "hf", ignore_errors=True)
        shutil.rmtree(folder / "out", ignore_errors=True)
        body = json_of(rng, model) if rng.random() < 0.5 else json.dumps(model).encode()
        answers["model"] = (
            200 if rng.random() < 0.7 else rng.choice(statuses),
            {"Content-Type": "application/json"},
            body,
        )
        given = dict(headers)
        for _ in range(rng.choice((0, 1, 1, 2))):
            name = rng.choice((*given, "Location", "X-Error-Code", "X-Error-Message", "Content-Type", "Retry-After"))
            given[name] = _header(rng, given.get(name, ""))
            if rng.random() < 0.2:
                del given[name]
        data = content if rng.random() < 0.5 else bytes_of(rng, content)
        answers["file"] = (200 if rng.random() < 0.7 else rng.choice(statuses), given, data)
        words = ["pull", rng.choice(("hf:a/b", "hf:a/b/model.safetensors@main", "hf:a/b/x.pth"))]
        return (
            words
            + (["--dry-run"] if rng.random() < 0.7 else ["-o", "out"])
            + (["--json"] if rng.random() < 0.5 else [])
        )

    return Source(make, command_line)


def _header(rng: Random, value: str) -> str:
    """A damaged value of a header, as a server can send it."""
    words = (
        *WORDS,
        *map(str, NUMBERS),
        "RepoNotFound",
        "GatedRepo",
        "EntryNotFound",
        "RevisionNotFound",
        "/x",
        "//x",
        "http://",
    )
    text = rng.choice(words) if rng.random() < 0.7 else value[: rng.randrange(len(value) + 1)] + rng.choice(words)
    return "".join(character for character in text if character.isprintable() and character < "\xff")[:1000]


def runs(folder: Path) -> Source:
    """Folders of runs whose records are damaged, opened as ``evaluate`` and ``finetune --resume`` do."""
    from simclrseg.config.finetune import FinetuneConfig
    from simclrseg.data.split_file import SPLIT_FILE, split_json
    from simclrseg.evaluation.opened import images_of, target_of
    from simclrseg.evaluation.scored import batch_size_of, model_run, origin_of
    from simclrseg.knobs.parsing import config_of_run, dump_config, parse_config
    from simclrseg.runs.lookup import list_runs
    from simclrseg.runs.names import ENVIRONMENT, MODEL_FILE
    from simclrseg.runs.run import Run
    from simclrseg.targets.segment.target import SegmentationTarget
    from simclrseg.weights.find import LOAD_REPORT, began_with, begun_with, recorded_file

    for number in range(12):
        mask = np.kron(np.arange(4).reshape(2, 2) % 2, np.ones((8, 8))).astype(np.uint8)
        write(folder / "photos" / "images" / f"{number}.png", np.full((16, 16, 3), 20 * number, np.uint8))
        write(folder / "photos" / "masks" / f"{number}.png", np.roll(mask, number, 1))
    tree = {"data": {"dataset": str(folder / "photos"), "image_size": 32}, "model": {"pretrained": "none"}}
    config = parse_config(FinetuneConfig, tree)
    target = SegmentationTarget.open(config.data)
    metadata = ModelMetadata(
        task="segmentation", encoder="resnet18", decoder="unet", image_size=32, classes=target.dataset.classes
    )
    test_hash = target.hash_of(target.split.test)
    moment = "2026-01-01T00:00:00.000000+00:00"
    environment = {
        "kind": "finetune",
        "started": moment,
        "finished": moment,
        "folder": str(folder),
        "test_hash": test_hash,
        "micro_batch": 8,
    }
    report = {"weights": "none", "metadata": json.loads(metadata.model_dump_json()), "loaded": 3}
    trees = {
        ENVIRONMENT: environment,
        SPLIT_FILE: split_json(target.dataset, target.split, test_hash),
        LOAD_REPORT: report,
    }
    texts = {"config.yaml": dump_config(config), "timing.csv": "epoch,step,seconds\n1,4,2.5\n2,8,2.5\n"}
    root = folder / "runs"
    run = root / "finetune" / "one"

    def make(rng: Random) -> str:
        shutil.rmtree(root, ignore_errors=True)
        run.mkdir(parents=True)
        (run / MODEL_FILE).write_bytes(b"")
        changed = rng.choice((*trees, *trees, *texts))
        for name, tree in trees.items():
            (run / name).write_bytes(json_of(rng, tree) if name == changed else json.dumps(tree).encode())
        for name, text in texts.items():
            (run / name).write_bytes(text_of(rng, text) if name == changed else text.encode())
        return changed

    def read(changed: str) -> None:
        found = model_run(root, "one")
        assert [one.name for one in list_runs(root, "finetune")] in ([], ["one"])
        assert batch_size_of("auto", run) >= 1
        target_of(found)
        pretrained = config_of_run(FinetuneConfig, run).model.pretrained
        opened = images_of(found, metadata)
        parts = [set(part) for part in (opened.split.train, opened.split.validation, opened.split.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)), "a photo is in two parts"
        scored = mock.Mock(metadata=metadata, kind="run", path=run)
        json.dumps(origin_of(scored, root))
        began_with(Run(run), pretrained, root=root)
        if (start := begun_with(Run(run))) is not None:
            recorded_file(start, Run(run))
            assert isinstance(start.label, str)

    return Source(make, read)
