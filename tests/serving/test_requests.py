"""What other programs are answered."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from simclrseg.cli.app import main
from simclrseg.commands.predict import predict
from simclrseg.config.predict import PredictConfig
from simclrseg.errors import OutOfMemory, UsageError
from simclrseg.inference import OUTPUTS
from simclrseg.inference.predictor import Predictor
from simclrseg.inference.session import open_model
from simclrseg.serving import app as serving
from simclrseg.serving import uploads
from simclrseg.serving.server import listen
from tests.images.geotiffs import geotiff
from tests.serving.servers import served

OWN = "http://127.0.0.1:8000"


def photo(height: int = 30, width: int = 50, kind: str = "PNG", dark: int = 20) -> bytes:
    """A photo that is dark on the left and bright on the right."""
    pixels = np.full((height, width, 3), dark, np.uint8)
    pixels[:, width // 2 :] = 230
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture
def app(make_model):
    return app_of(make_model())


def app_of(path: Path, *, at_once: int = 2, hosts=(), **options):
    model = open_model(path, "cpu", threads=1)
    predictor = Predictor(model, threshold=model.metadata.threshold, **options)
    return serving.make_app(predictor, path.name, at_once=at_once, hosts=hosts)


def ask(app, method: str, path: str, *, base: str = OWN, **request) -> httpx.Response:
    async def go() -> httpx.Response:
        async with client(app, base) as asker:
            return await asker.request(method, path, **request)

    return asyncio.run(go())


def client(app, base: str = OWN) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=base, timeout=20)


def line_of(answer: httpx.Response) -> str:
    """The one line of an answer that is no prediction."""
    content = answer.json()
    assert list(content) == ["error"] and "\n" not in content["error"]
    return content["error"]


@pytest.mark.parametrize("kind", [kind for kind in OUTPUTS if kind not in ("coco", "labelme")])
def test_an_answer_is_the_file_that_the_command_writes(make_model, tmp_path, kind):
    model, content = make_model(image_size=64), photo(kind="JPEG")
    (tmp_path / "a.jpg").write_bytes(content)
    result = predict(
        PredictConfig.model_validate(
            {
                "input": {"inputs": [str(tmp_path / "a.jpg")], "model": str(model)},
                "hardware": {"device": "cpu"},
                "console": {"output": str(tmp_path / "out"), "outputs": [kind]},
            }
        )
    )
    app = app_of(model)
    form = ask(app, "POST", f"/predict?as={kind}", files={"any": ("a.jpg", content, "image/jpeg")})
    body = ask(app, "POST", f"/predict?as={kind}", content=content, headers={"Content-Type": "image/jpeg"})
    assert form.content == Path(result.done[0][kind]).read_bytes()
    assert body.status_code == 200 and (body.content == form.content or kind == "json")
    assert float(form.headers["x-confidence"]) == result.done[0]["confidence"]
    expected = {
        "json": "application/json",
        "yolo": "text/plain; charset=utf-8",
        "geotiff": "image/tiff",
        "geojson": "application/geo+json",
    }
    assert form.headers["content-type"] == expected.get(kind, "image/png")


def test_labels_for_tools_name_the_photo_without_its_folders(app):
    for name in ("../../x/a b.jpg", r"..\..\x\a b.jpg"):
        files = {"photo": (name, photo(), "image/png")}
        coco = ask(app, "POST", "/predict?as=coco", files=files).json()
        assert [image["file_name"] for image in coco["images"]] == ["a b.jpg"] and coco["annotations"]
        assert ask(app, "POST", "/predict?as=labelme", files=files).json()["imagePath"] == "a b.jpg"


def test_a_mask_is_what_is_answered_by_default_and_a_threshold_moves_it(make_model):
    app = app_of(make_model(image_size=64))
    mask = np.asarray(Image.open(io.BytesIO(ask(app, "POST", "/predict", content=photo(dark=100)).content)))
    low = np.asarray(
        Image.open(io.BytesIO(ask(app, "POST", "/predict?threshold=0.3", content=photo(dark=100)).content))
    )
    assert mask.shape == (30, 50) and set(np.unique(mask)) == {0, 255}
    assert (low == 255).all() and not (mask == 255).all()


def test_a_classifier_gives_labels_with_scores_as_json(make_classifier):
    app = app_of(make_classifier())
    green = io.BytesIO()
    Image.new("RGB", (20, 20), (10, 200, 10)).save(green, "PNG")
    answer = ask(app, "POST", "/predict", content=green.getvalue())
    assert answer.json()["label"] == "green" and sum(answer.json()["scores"].values()) == pytest.approx(1, abs=1e-5)
    refused = ask(app, "POST", "/predict?as=mask", content=green.getvalue())
    assert refused.status_code == 400
    assert line_of(refused) == "as=mask: the model gives labels, not masks; take as=json"
    assert ask(app, "GET", "/health").json()["task"] == "classify"


def test_health_says_what_the_page_and_programs_need(app):
    health = ask(app, "GET", "/health").json()
    assert (health["status"], health["task"], health["model"]) == ("ok", "segment", "model.onnx")
    assert (health["classes"], health["threshold"], health["working"]) == (["background", "cat"], 0.5, 0)
    assert health["overlay"] and len(health["colours"]) == 2 and health["most_bytes"] == uploads.LARGEST


@pytest.mark.parametrize(
    ("bands", "options", "reason", "remedy"),
    [
        (5, {}, "it has 5 bands of 8 bits, and the model takes 3 of 8", "have the page started with --bands"),
        (2, {}, "it has 2 bands of 8 bits, and the model takes 3 of 8", "give a picture that has all of these"),
        (5, {"bands": ("red", "nir")}, "it has 5 bands, and 2 names are given", "send one with these bands"),
    ],
)
def test_a_picture_of_other_bands_is_named_and_its_sender_gets_a_remedy(make_model, bands, options, reason, remedy):
    content = geotiff(np.zeros((30, 50, bands), np.uint8))
    app = app_of(make_model(), **options)
    answer = ask(app, "POST", "/predict", files={"photo": ("../fields.tif", content, "image/tiff")})
    line = line_of(answer)
    assert answer.status_code == 422 and line.startswith(f"fields.tif: {reason} ") and line.endswith(remedy)


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
CUT = b'--b\r\nContent-Disposition: form-data; name="p"; filename="a.png"\r\n\r\n' + photo()


@pytest.mark.parametrize(
    ("path", "request_", "status", "line"),
    [
        ("/predict", {"content": b""}, 400, "the request holds no photo: "),
        ("/predict", {"content": b"no photo"}, 422, "the picture (8 bytes): not a picture that can be read"),
        ("/predict", {"content": photo()[:90]}, 422, "the picture (90 bytes): the picture is damaged"),
        ("/predict", {"json": {}}, 415, "the body is of type application/json: send image/jpeg"),
        ("/predict", {"data": {"a": "b"}}, 415, "the body is of type application/x-www-form-urlencoded: send"),
        ("/predict?as=masks", {"content": photo()}, 400, "unknown output 'masks': did you mean 'mask'?"),
        ("/predict?threshold=x", {"content": photo()}, 400, "threshold is 'x': it must be a number with 0 < x < 1"),
        ("/predict?threshold=nan", {"content": photo()}, 400, "threshold is 'nan': it must be a number"),
        ("/predict?tile=64", {"content": photo()}, 400, "'tile' is not known: as and threshold are"),
        ("/predict", {"files": {"a": ("a", photo()), "b": ("b", photo())}}, 400, "the form holds 2 files, and one"),
        ("/predict", {"files": {"a": ("a", b"")}}, 400, "the request holds no photo"),
        ("/predict", {"files": {"a": ("a", photo())}, "data": {"as": "json"}}, 400, "the form has fields beside"),
        ("/predict", {"files": {"a": (None, "x")}}, 400, "the form holds no file, and one photo is taken at a time"),
        ("/predict", {"content": CUT, "headers": MULTIPART}, 400, "the form has no boundary, or is cut short"),
        ("/predict", {"content": b"nonsense", "headers": MULTIPART}, 400, "the form cannot be read ("),
        ("/predict", {"content": photo(), "headers": {"Content-Type": "multipart/form-data"}}, 400, "the form has no"),
        ("/nothing", {"content": photo()}, 404, "POST /nothing is not known: there are GET /, GET /health and POST"),
        ("/health", {"content": photo()}, 405, "POST /health is not known: there are"),
    ],
)
def test_a_request_that_cannot_be_answered_gets_a_status_and_one_line(app, path, request_, status, line):
    answer = ask(app, "POST", path, **request_)
    assert line_of(answer).startswith(line)
    assert answer.status_code == status


def test_every_odd_picture_is_answered_or_refused_in_one_line(app, real_data):
    statuses = []
    for path in sorted((real_data / "odd_images").iterdir()):
        answer = ask(app, "POST", "/predict", content=path.read_bytes())
        assert answer.status_code == 200 or line_of(answer)
        statuses.append(answer.status_code)
    assert set(statuses) == {200, 400, 413, 422}  # a file without a byte, a bomb, and damaged ones are among them


@pytest.mark.parametrize("name", ["decompression_bomb.gif", "made_bomb_30000x30000.png"])
def test_every_picture_that_claims_too_many_pixels_is_too_large(app, real_data, name):
    content = (real_data / "odd_images" / name).read_bytes()
    assert ask(app, "POST", "/predict", content=content).status_code == 413


def test_a_photo_of_too_many_pixels_or_bytes_is_refused_before_it_is_decoded(make_model, monkeypatch):
    app = app_of(make_model(), max_pixels=1000)
    large = ask(app, "POST", "/predict", content=photo())
    assert (large.status_code, line_of(large)) == (
        413,
        "50 x 30 = 1,500 pixels, more than the 1,000 allowed: shrink it",
    )
    monkeypatch.setattr(uploads, "LARGEST", 100)
    heavy = ask(app, "POST", "/predict", content=bytes(300))
    assert (heavy.status_code, line_of(heavy)) == (413, "the request is larger than 100 bytes: send a smaller photo")


def test_a_model_with_a_probability_a_class_has_no_threshold(make_model):
    answer = ask(app_of(make_model(classes=3)), "POST", "/predict?threshold=0.4", content=photo())
    assert answer.status_code == 400 and line_of(answer).startswith("threshold: the model gives a probability a class")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "a b"])
def test_a_host_that_is_not_this_machine_is_refused(app, host):
    for method, path in (("GET", "/"), ("GET", "/health"), ("POST", "/predict")):
        answer = ask(app, method, path, headers={"Host": host})
        assert answer.status_code == 403 and line_of(answer).startswith(f"the address names the host {host!r}: use")


def test_this_machine_is_known_by_its_numbers_and_the_names_that_it_is_told(make_model):
    app = app_of(make_model(), hosts=["Lab-PC"])
    for host in ("127.0.0.1:8000", "[::1]:8000", "192.168.1.7:80", "localhost", "LOCALHOST:1", "lab-pc:8000"):
        assert ask(app, "GET", "/health", headers={"Host": host}).status_code == 200
    assert ask(app, "GET", "/health", headers={"Host": "lab-pd"}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9000", "http://127.0.0.1:8000@x"])
def test_pages_of_other_sites_may_not_ask(app, origin):
    answer = ask(app, "POST", "/predict", content=photo(), headers={"Origin": origin})
    assert answer.status_code == 403 and line_of(answer).startswith(f"the page of {origin!r} may not ask")
    assert ask(app, "POST", "/predict", content=photo(), headers={"Origin": OWN}).status_code == 200


def test_every_answer_says_that_nothing_from_elsewhere_runs_and_no_site_may_read_it(app, monkeypatch):
    monkeypatch.setattr(serving, "answer", fail_with(RuntimeError("a bug")))
    asked = [("GET", "/"), ("GET", "/page.js"), ("GET", "/health"), ("POST", "/predict"), ("GET", "/none")]
    for method, path in asked:
        answer = ask(app, method, path, content=photo() if method == "POST" else None)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; ")
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def fail_with(error):
    def fail(*args, **options):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (RuntimeError("secret"), 500, "this is a fault of simclrseg: what it printed says more"),
        (OutOfMemory("out of memory over this photo"), 503, "out of memory over this photo"),
    ],
)
def test_what_fails_inside_is_a_line_too(app, monkeypatch, error, status, line):
    monkeypatch.setattr(serving, "answer", fail_with(error))
    answer = ask(app, "POST", "/predict", content=photo())
    assert (answer.status_code, line_of(answer)) == (status, line)
    assert ask(app, "GET", "/health").json()["working"] == 0


def test_who_waits_when_the_server_ends_is_told_so(app, monkeypatch):
    monkeypatch.setattr(serving, "answer", lambda *args, **options: time.sleep(0.5))

    async def go() -> httpx.Response:
        async with client(app) as asker:
            asked = asyncio.ensure_future(asker.post("/predict", content=photo()))
            while (await asker.get("/health")).json()["working"] == 0:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            asked.cancel()
            return await asked

    answer = asyncio.run(go())
    assert (answer.status_code, line_of(answer)) == (503, "simclrseg has been ended meanwhile: start it again")


def test_many_at_once_get_each_their_own_answer(make_model):
    app = app_of(make_model(image_size=32))
    sizes = [(20 + 3 * number, 40 + number) for number in range(12)]

    async def go() -> list[httpx.Response]:
        async with client(app) as asker:
            return await asyncio.gather(*(asker.post("/predict", content=photo(*size)) for size in sizes))

    answers = asyncio.run(go())
    assert [Image.open(io.BytesIO(answer.content)).size[::-1] for answer in answers] == sizes


def test_who_comes_when_all_places_are_taken_is_told_to_ask_again(make_model, monkeypatch):
    monkeypatch.setattr(serving, "WAITING", 0)
    app = app_of(make_model(), at_once=1)

    async def go() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        rest = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield photo()[:100]
            await rest.wait()
            yield photo()[100:]

        async with client(app) as asker:
            # the transport hands a body on as it comes, so that the first keeps its place
            first = asyncio.ensure_future(asker.post("/predict", content=slowly()))
            while (await asker.get("/health")).json()["working"] == 0:
                await asyncio.sleep(0.01)
            second = await asker.post("/predict", content=photo())
            rest.set()
            return await first, second, await asker.post("/predict", content=photo())

    first, second, third = asyncio.run(go())
    assert (first.status_code, second.status_code, third.status_code) == (200, 503, 200)
    assert second.headers["retry-after"] == "1"
    assert line_of(second) == "all 1 places are taken: ask again in a moment"


def test_photos_that_wait_fill_no_more_memory_than_there_is_for_them(app, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_HELD", 50)
    answer = ask(app, "POST", "/predict", content=photo())
    assert answer.status_code == 503 and line_of(answer).startswith("the photos that are waiting fill the memory")
    monkeypatch.setattr(uploads, "MOST_HELD", 10_000)
    assert [ask(app, "POST", "/predict", content=photo()).status_code for _ in range(60)] == [200] * 60


def test_a_photo_that_does_not_come_is_not_waited_for(app, monkeypatch):
    monkeypatch.setattr(uploads, "PATIENCE", 0.05)

    async def never() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(10)

    answer = ask(app, "POST", "/predict", content=never())
    assert answer.status_code == 408 and line_of(answer).startswith("the photo has not come within 0 seconds")


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no Ctrl-C to a single process")
def test_a_server_says_who_may_reach_it_answers_writes_nothing_and_ends_cleanly(make_model, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    folder = tmp_path / "here"
    folder.mkdir()
    with served(folder, "--model", str(make_model()), "--host", "0.0.0.0") as server:
        # 2 MB, beyond what forms keep in memory
        large = np.random.default_rng(0).integers(0, 256, (800, 900, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(large).save(file, "PNG")
        answer = httpx.post(f"{server.address}predict", files={"photo": ("../x.png", file.getvalue(), "image/png")})
        assert answer.status_code == 200
        assert httpx.get(server.address).text.startswith("<!DOCTYPE html>")
        named = {"Host": socket.gethostname()}
        assert httpx.get(f"{server.address}health", headers=named).status_code == 200
        assert server.end(signal.SIGINT) == 130
        *_, warning, how, photo, last = server.said.splitlines()
        assert warning.startswith(
            "warning: --host 0.0.0.0: other machines may reach this page, and whoever does can use"
        )
        assert f"curl -F photo=@image.jpg {server.address}predict -o mask.png" in how
        assert photo.startswith(f"mask of a photo of {len(file.getvalue()):,} bytes, ")
        assert last == "interrupted"
    assert [path.name for path in folder.iterdir()] == ["said"]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_an_address_that_cannot_be_had_is_one_line(capsys, make_model):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemExit) as end:
            main(["predict", "--serve", "--port", str(port), "--model", str(make_model())])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: 127.0.0.1:{port} is taken: pass another --port, or --port 0 for a free one\n")
    for host in ("nowhere.invalid", "192.0.2.1", "x" * 70 + ".de"):
        with pytest.raises(UsageError, match=f"^{host} is no address of this machine: leave out --host, or name one$"):
            listen(host, 0)


def test_what_is_not_installed_is_named_with_the_line_that_brings_it(capsys, monkeypatch):
    monkeypatch.setattr("simclrseg.commands.serve.find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(SystemExit) as end:
        main(["predict", "--serve"])
    assert end.value.code == 2
    message = "error: --serve needs uvicorn, which is not installed: pip install 'simclrseg[serve]'\n"
    assert capsys.readouterr().err == message
