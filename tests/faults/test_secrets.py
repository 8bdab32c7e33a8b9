"""Passwords, tokens and signed addresses, which nothing that we print or write may hold."""

from __future__ import annotations

import json
import logging
import shlex
import sys

import pytest
from huggingface_hub import constants

from simclrseg.cli import console
from simclrseg.cli.app import main
from simclrseg.errors import DataError, HubError
from simclrseg.hub.fetch import fetch
from simclrseg.hub.table import Source
from simclrseg.system import log_file
from simclrseg.text import message, without_secrets
from tests.small import SMALL_PRETRAIN, changed, in_runs

PASSWORD, TOKEN, SIGNATURE = "s3cretpassword", "hf_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef", "deadbeefdeadbeef"
SIGNED = f"https://cdn.example/f?X-Amz-Signature={SIGNATURE}&X-Amz-Credential=key"
SOURCE = Source("me/repo", "model.safetensors", title="me/repo")


def leaks(text: str) -> list[str]:
    return [secret for secret in (PASSWORD, TOKEN, SIGNATURE, "X-Amz-Credential") if secret in text]


@pytest.fixture
def secrets(fake_hub, monkeypatch):
    """A Hub behind a password, and a token."""
    address = fake_hub.url.replace("://", f"://someone:{PASSWORD}@")
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setenv("NO_COLOR", "1")
    return fake_hub


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Run a command line; gives exit code and all that it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        with pytest.raises(SystemExit) as end:
            main(list(args))
        printed = "".join(capfd.readouterr())
        assert not leaks(printed)
        return end.value.code or 0, printed

    return run


@pytest.mark.parametrize("word", ["none", "test", "disabled"])
def test_a_word_in_the_place_of_a_token_is_shown_where_else_it_stands(word, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", word)
    monkeypatch.setenv("WANDB_API_KEY", word)
    text = f"/data/{word}/photo.jpg: no such file, with --pretrained {word}"
    assert str(DataError(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        f"https://someone:{PASSWORD}@hub.example/api cannot be reached",
        f"HTTP://{PASSWORD}@hub.example",
        f"https:/someone:{PASSWORD}@hub.example is no folder",  # as a path has it
        f"redirected to '{SIGNED}'",
        f"Illegal header value b'Bearer {TOKEN}'",
        f"socks5h://u:{PASSWORD}@proxy:1080",
        f"{PASSWORD}@hub.example: nonnumeric port",
        f"a token of another form: {PASSWORD[::-1]}",
    ],
)
def test_no_message_holds_a_secret_wherever_it_comes_from(text, monkeypatch, capsys):
    monkeypatch.setenv("https_proxy", f"http://u:{PASSWORD}@proxy")
    monkeypatch.setenv("HF_TOKEN", PASSWORD[::-1])
    with console.session(quiet=False):
        logging.getLogger("simclrseg").warning(text)
        console.print_error(text)
        console.print_result({"next": text if "://" in text else "nothing"})
    printed = str(DataError(text)) + "".join(capsys.readouterr()) + log_file.traced(ValueError(text))
    assert not leaks(printed) and PASSWORD[::-1] not in printed


def test_addresses_without_secrets_stay_as_they_are():
    for text in (
        "https://huggingface.co/me/repo/resolve/main/model.safetensors",
        "C:/photos/me@home.jpg, hf:me/repo@main and photos/a@2x.png",
        "did you mean https://huggingface.co? hf_model_weights.bin",
    ):
        assert message(text) == without_secrets(text) == text


def test_json_stays_json_where_secrets_are_left_out(capsys):
    console.print_result({"said": f'see "{SIGNED}" or {SIGNED}\\', "at": f"https://u:{PASSWORD}@host"}, as_json=True)
    printed = capsys.readouterr().out
    assert not leaks(printed)
    assert json.loads(printed)["at"] == "https://host"


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["hf:me/repo"], {}),
        (["hf:no/repo"], {}),
        (["hf:me/repo", "--token", TOKEN], {"status": 403}),
        (["hf:me/repo"], {"status": 503}),
        (["hf:me/repo"], {"status": 302, "body": b"", "headers": {"Location": SIGNED.replace("cdn.example", "[::1")}}),
        (["hf:me/repo"], {"headers": {"X-HF-Warning": f"topic; see {SIGNED} \x1b[31m"}, "body": b"{}"}),
    ],
)
def test_a_pull_through_a_password_prints_none(secrets, run, monkeypatch, words, fault, debug):
    secrets.add("me/repo", {"model.safetensors": b"weights"})
    if fault:
        secrets.fail(".*", times=9, **fault)
    if debug:
        monkeypatch.setenv("SIMCLRSEG_DEBUG", "1")
    code, printed = run("pull", *words)
    assert code == 2
    assert ("Traceback" in printed) is debug
    assert "\x1b" not in printed
    assert printed.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_PROXY", f"http://u:{PASSWORD}@127.0.0.1:1"),
        ("HTTP_PROXY", f"garbage://u:{PASSWORD}@h"),
        ("ALL_PROXY", f"socks5://u:{PASSWORD}@127.0.0.1:1"),
        ("HF_TOKEN", f"{TOKEN}é"),
    ],
)
def test_a_proxy_or_token_that_cannot_be_used_is_one_line(fake_hub, monkeypatch, variable, value):
    fake_hub.add("me/repo", {"model.safetensors": b"weights"})
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv(variable, value)
    with pytest.raises(HubError) as caught:
        fetch(SOURCE)
    assert not leaks(str(caught.value))
    assert ("HF_TOKEN" if variable == "HF_TOKEN" else "check") in str(caught.value)


def test_a_token_of_two_lines_is_said_to_be_none(fake_hub):
    fake_hub.add("me/repo", {"model.safetensors": b"weights"})
    with pytest.raises(HubError, match=r"^the token for .* holds characters that no token has: set HF_TOKEN"):
        fetch(SOURCE, token=f"{TOKEN}\nX: y")


@pytest.mark.parametrize("host", ["host:99999", "[::1", "host/x:y", "host"])
def test_an_endpoint_that_is_no_address_is_one_line(run, monkeypatch, host):
    monkeypatch.setenv("HF_ENDPOINT", f"http://u:{PASSWORD}/{PASSWORD}@{host}")
    code, printed = run("pull", "hf:me/repo")
    assert code == 2
    assert printed.startswith("error: HF_ENDPOINT http://") and printed.count("\n") == 1


def test_a_run_keeps_its_command_without_secrets(tmp_path, monkeypatch):
    from simclrseg.commands.pretrain import pretrain
    from simclrseg.config.pretrain import PretrainConfig

    monkeypatch.setattr(sys, "argv", ["simclrseg", "pretrain", "--log", SIGNED, f"http://u:{PASSWORD}@host", TOKEN])
    tree = in_runs(changed(SMALL_PRETRAIN, "training", epochs=1, batch_size=8), tmp_path)
    tree["data"] |= {"max_images": 16}
    folder = pretrain(PretrainConfig.model_validate(tree)).run
    texts = [path.read_text("utf-8") for path in folder.iterdir() if path.suffix in {".json", ".txt", ".yaml", ".md"}]
    assert len(texts) >= 4
    assert not leaks("".join(texts))
    command = json.loads((folder / "environment.json").read_text())["command"]
    assert shlex.split(command)[:3] == ["simclrseg", "pretrain", "--log"]
