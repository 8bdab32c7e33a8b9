"""export --format safetensors: weights, a card that works, and both on the Hub in one commit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml

from simclrseg.commands.export import export
from simclrseg.commands.pull import pull
from simclrseg.config.export import ExportConfig
from simclrseg.config.pull import PullConfig
from simclrseg.errors import GateError, HubError, OutOfMemory, UsageError
from simclrseg.exporters import weights
from simclrseg.exporters.weights import export_weights
from simclrseg.metadata import ModelMetadata
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import build_backbone, pooled_features
from simclrseg.models.segmenters import build_unet
from simclrseg.models.weights import read_metadata, save_weights
from simclrseg.runs.claim import claim
from simclrseg.runs.names import BACKBONE_FILE, MODEL_FILE
from simclrseg.runs.run import Run, finish
from simclrseg.weights.card import card_text, usage
from tests.fake_hub import TOKEN
from tests.models.features import last_features

# huggingface_hub's upload of a large file, as its HTTP library sees it
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture
def root(tmp_path) -> Path:
    """A pretraining and a fine-tuned run."""
    torch.manual_seed(0)
    encoder = build_backbone("resnet18")
    run = claim(tmp_path / "runs", "pretrain", "pets")
    (run.folder / "config.yaml").write_text("command: pretrain\ndata: {dataset: [shapes]}\n")
    facts = {"encoder": "resnet18", "image_size": 32, "dataset": "shapes", "epochs": 7, "version": "0.1"}
    backbone = ModelMetadata(task="backbone", method="simclr", metrics={"loss": 1.25}, **facts)
    save_weights(run.folder / BACKBONE_FILE, encoder.state_dict(), backbone)
    finish(run)
    run = claim(tmp_path / "runs", "finetune", "shapes-pets")
    (run.folder / "config.yaml").write_text("command: finetune\n")
    model = ModelMetadata(
        task="segmentation", decoder="unet", classes=("background", "figure"), threshold=0.5, pretrained="pets", **facts
    )
    save_weights(run.folder / MODEL_FILE, build_unet(encoder, "resnet18", 1).state_dict(), model)
    finish(run)
    return tmp_path / "runs"


def exported(root: Path, run: str, *, format: str = "safetensors", output: str | None = None, **hub) -> dict:
    tree = {"model": {"run": run, "format": format}, "hub": hub, "console": {"runs": str(root), "output": output}}
    return export(ExportConfig.model_validate(tree))


def test_a_backbone_and_its_card_lie_in_a_folder_of_their_own(root):
    result = exported(root, "pets", licence="mit")
    folder = root / "pretrain" / "pets" / "hub"
    assert (result.file, result.card) == (folder / BACKBONE_FILE, folder / "README.md")
    card = (folder / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "mit" and {"simclr", "resnet18"} <= set(header["tags"])
    assert "- loss: 1.25" in card and "photos | shapes" in card and "command: pretrain" in card


def test_a_file_that_fails_its_check_leaves_no_empty_folder(root, monkeypatch):
    monkeypatch.setattr(weights, "read_weights", lambda path: ({}, None))
    with pytest.raises(GateError, match="do not come back"):
        exported(root, "pets")
    assert not (root / "pretrain" / "pets" / "hub").exists()


def test_an_export_out_of_memory_is_one_line(root, monkeypatch):
    def full(path):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(weights, "read_weights", full)
    with pytest.raises(OutOfMemory, match=r"^out of memory in the export: free some memory$"):
        exported(root, "pets")


def run_card(folder: Path, library: str, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The names that a card's lines for a library define, typed in the card's folder."""
    (code,) = re.findall(rf"With {library}:\n\n```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(code, names)
    return names


@pytest.mark.parametrize("library", ["torchvision", "timm", "segmentation-models-pytorch"])
def test_the_lines_of_the_card_load_the_same_encoder(root, monkeypatch, library):
    exported(root, "pets")
    names = run_card(root / "pretrain" / "pets" / "hub", library, monkeypatch)
    ours = build_backbone("resnet18").eval()
    torch.nn.Module.load_state_dict(ours, safetensors.torch.load_file(BACKBONE_FILE))
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        theirs = getattr(names["model"], "encoder", names["model"]).eval()
        assert torch.equal(last_features(theirs, images), ours(images)[-1])


@pytest.mark.parametrize("encoder", ["tu-resnet18", "tu-convnext_atto", "tu-vit_tiny_patch16_224", "mit_b0", "cnn"])
def test_a_published_encoder_has_the_keys_of_the_run_and_every_line_of_its_card_works(tmp_path, monkeypatch, encoder):
    torch.manual_seed(0)
    ours = build_backbone(encoder).eval()
    metadata = ModelMetadata(task="backbone", encoder=encoder, image_size=64)
    monkeypatch.chdir(tmp_path)
    export_weights(ours, tmp_path / BACKBONE_FILE, metadata)
    ways = dict(re.findall(r"With (\S+):\n\n```python\n(.*?)```", "\n".join(usage(BACKBONE_FILE, metadata)), re.DOTALL))
    assert {"timm": "tu-" in encoder, "segmentation-models-pytorch": "vit" not in encoder and encoder != "cnn"} == {
        library: library in ways for library in ("timm", "segmentation-models-pytorch")
    }
    images = torch.randn(1, 3, 224, 224)
    for code in ways.values():
        names: dict = {}
        exec(code, names)
        theirs = getattr(names["model"], "encoder", names["model"]).eval()
        with torch.inference_mode():
            got = theirs(images)
            expected = pooled_features(ours, images) if isinstance(got, torch.Tensor) else ours(images)[-1]
            torch.testing.assert_close(got if isinstance(got, torch.Tensor) else got[-1], expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("encoder", "bands", "code"),
    [
        ("resnet18", 12, 'smp.Unet("resnet18", encoder_weights=None, in_channels=12)'),
        ("vit_b_16", 3, 'timm.create_model("vit_base_patch16_224", num_classes=0)'),
        ("cnn", 3, None),
    ],
)
def test_a_card_loads_its_own_encoder(encoder, bands, code):
    names = tuple(f"B{number}" for number in range(bands))
    facts = {"in_channels": bands, "bands": names, "mean": (0.5,) * bands, "std": (0.2,) * bands}
    metadata = ModelMetadata(task="backbone", method="simclr", encoder=encoder, image_size=224, **facts)
    card = card_text("pets", BACKBONE_FILE, metadata, use="", rows={"batch": "8 photos"})
    assert "\n".join(usage(BACKBONE_FILE, metadata)) in card
    assert code in card if code else "```" not in card
    assert ("smp" in card) == (encoder == "resnet18") and card.count("Pixels in [0, 1]") == 1


@pytest.mark.parametrize("decoder", ["unetplusplus", "fpn", "deeplabv3plus"])
def test_the_lines_of_the_card_load_every_decoder(tmp_path, monkeypatch, decoder):
    monkeypatch.chdir(tmp_path)
    facts = {"classes": ("background", "figure"), "threshold": 0.5, "encoder": "resnet18", "image_size": 64}
    metadata = ModelMetadata(task="segmentation", decoder=decoder, **facts)
    ours = SEGMENTERS[decoder](build_backbone("resnet18"), "resnet18", 1).eval()
    export_weights(ours, tmp_path / MODEL_FILE, metadata)
    (code,) = re.findall(r"```python\n(.*?)```", "\n".join(usage(MODEL_FILE, metadata)), re.DOTALL)
    names: dict = {}
    exec(code, names)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(names["model"].eval()(images), ours(images))


def test_the_lines_of_the_card_load_the_same_segmentation_model(root, monkeypatch):
    exported(root, "shapes-pets")
    names = run_card(root / "finetune" / "shapes-pets" / "hub", "segmentation-models-pytorch", monkeypatch)
    assert names["model"](torch.zeros(2, 3, 64, 64)).shape == (2, 1, 64, 64)


def test_a_named_file_has_its_card_beside_it(root, tmp_path):
    result = exported(root, "pets", output=str(tmp_path / "mine.safetensors"))
    assert result.card == tmp_path / "mine.md"


def test_all_is_pushed_in_one_commit_and_can_be_pulled(root, fake_hub):
    result = exported(root, "pets", push="me/cats", private=True, token=TOKEN)
    repo = fake_hub.repos["me/cats"]
    assert repo.private and len(repo.messages) == 1
    tree = repo.commits[repo.refs["main"]]
    assert tree.keys() == {BACKBONE_FILE, "README.md", "config.yaml"}
    assert tree[BACKBONE_FILE] == result.file.read_bytes()
    assert b"hf:me/cats" in tree["README.md"]
    assert result.commit.startswith(fake_hub.url) and result.next == "simclrseg pull hf:me/cats"
    pulled = pull(PullConfig.model_validate({"source": {"name": "hf:me/cats"}}))
    assert pulled.file.read_bytes() == tree[BACKBONE_FILE]


@pytest.mark.parametrize(("kind", "name"), [("pretrain", "pets"), ("finetune", "shapes-pets")])
def test_what_is_uploaded_names_no_path_of_this_machine(root, tmp_path, fake_hub, kind, name):
    private = tmp_path / "home" / "me" / "secret project" / "voc"
    run = Run(root / kind / name)
    own = {"dataset": str(private)}
    tree = {"command": kind, "data": own, "model": {"pretrained": str(private / "start.ckpt")}}
    if kind == "pretrain":
        own = {"dataset": ["shapes", str(private), "hf:owner/set"]}
        tree = {"command": kind, "data": own, "model": {"init": str(private.parent / "pets")}}
    tree["data"]["normalization"] = str(private / "figures.yaml")
    (run.folder / "config.yaml").write_text(yaml.safe_dump({**tree, "console": {"runs": str(root)}}))
    file = run.folder / (BACKBONE_FILE if kind == "pretrain" else MODEL_FILE)
    named = "+".join(own["dataset"]) if kind == "pretrain" else str(private)
    data = {} if kind == "pretrain" else own
    metadata = read_metadata(file).model_copy(update={"dataset": named, "data": data})
    save_weights(file, safetensors.torch.load_file(file), metadata)
    exported(root, name, push="me/cats", token=TOKEN)
    repo = fake_hub.repos["me/cats"]
    tree = repo.commits[repo.refs["main"]]
    for content in tree.values():
        assert not any(word.encode() in content for word in ("secret project", "home/me", str(tmp_path), TOKEN))
    kept = yaml.safe_load(tree["config.yaml"])
    assert kept["data"]["dataset"] == (["shapes", "voc/", "hf:owner/set"] if kind == "pretrain" else "voc/")
    assert kept["model"]["init" if kind == "pretrain" else "pretrained"] in ("pets", "start.ckpt")
    assert kept["console"]["runs"] == "runs" and kept["data"]["normalization"] == "figures.yaml"
    assert b"voc/" in tree["README.md"] and b"/images and" in tree["README.md"]  # a folder, and not the set of its name


def test_a_repository_that_exists_gets_another_commit(root, fake_hub, monkeypatch):
    fake_hub.add("me/cats", {"notes.txt": b"kept"})
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    exported(root, "pets", push="me/cats")
    repo = fake_hub.repos["me/cats"]
    assert {"notes.txt", BACKBONE_FILE} <= repo.commits[repo.refs["main"]].keys()


@pytest.mark.parametrize(
    ("hub", "message"),
    [
        ({"push": "me/cats"}, r"needs a token with write access: set HF_TOKEN"),
        ({"push": "me/cats", "token": "hf_wrong"}, r"the Hub refused the token"),
        ({"push": "cats"}, "write owner/name"),
        ({"push": "me/cats", "format": "onnx"}, "not onnx: pass --format safetensors"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_anything_is_written(root, fake_hub, hub, message):
    with pytest.raises((HubError, UsageError), match=message):
        exported(root, "pets", **hub)
    assert not (root / "pretrain" / "pets" / "hub").exists()
    assert "me/cats" not in fake_hub.repos


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ("POST /api/repos/create", 403, "access to me/cats .* was refused: check the rights"),
        ("PUT /_lfs/", 403, "access to me/cats .* was refused"),
        ("POST .*/commit/", 500, r"the Hub failed on me/cats .* \(HTTP 500\)"),
        ("GET /api/whoami", 429, "too many requests"),
    ],
)
def test_a_refused_upload_is_one_line(root, fake_hub, request_, status, message):
    fake_hub.fail(request_, times=9, status=status)
    with pytest.raises(HubError, match=message) as caught:
        exported(root, "pets", push="me/cats", token=TOKEN)
    assert "\n" not in str(caught.value)


def test_no_network_is_said_at_once(root, fake_hub):
    fake_hub.close()
    with pytest.raises(HubError, match=r"cannot be reached \(ConnectError\): check the network"):
        exported(root, "pets", push="me/cats", token=TOKEN)
