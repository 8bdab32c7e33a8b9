"""The page in a real browser, headless: chosen and dropped photos, keys alone, small screens, the dark."""

from __future__ import annotations

import base64
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from simclrseg.images.colours import overlay
from simclrseg.metadata import voc_colours
from tests.images.geotiffs import geotiff
from tests.inference.models import write_classifier, write_segmenter
from tests.serving.servers import Served, served

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

SIZES = {"phone": (360, 740), "desktop": (1280, 900)}
# Of each text that is seen, its contrast with what lies behind it (WCAG 2.2, 1.4.3).
CONTRASTS = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d");
const rgb = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data]; };
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.checkVisibility() || element.disabled) continue;
  let behind = element;
  while (behind && rgb(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const ground = behind ? getComputedStyle(behind).backgroundColor : "white";
  const [one, other] = [light(rgb(getComputedStyle(element).color)), light(rgb(ground))];
  found.push([(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), element.textContent.trim().slice(0, 40)]);
}
return found;
"""
DROP = """
const [files] = arguments;
const transfer = new DataTransfer();
for (const [name, content] of files) {
  transfer.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name));
}
document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
"""


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads) -> Iterator[webdriver.Chrome]:
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with served(folder, "--model", str(write_segmenter(folder / "cats.onnx", image_size=64))) as server:
        yield server


@pytest.fixture
def page(browser, server) -> webdriver.Chrome:
    return opened(browser, server.address)


def opened(browser, address: str, *, size: tuple[int, int] = (1280, 900), dark: bool = False) -> webdriver.Chrome:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(address)
    wait(browser).until(lambda page: "class" in page.find_element(By.ID, "model").text)
    return browser


def wait(page) -> WebDriverWait:
    return WebDriverWait(page, 20, poll_frequency=0.05)


def status(page) -> str:
    return page.find_element(By.ID, "status").text


def all_done(page, count: int) -> str:
    """What the page says when all photos are done."""
    wait(page).until(lambda page: f"of {count} photo" in status(page) and " done" in status(page))
    return status(page)


def write_photos(folder: Path, count: int) -> list[Path]:
    """Photos that get brighter from left to right, each of its own size."""
    paths = []
    for number in range(count):
        height, width = 40 + number, 60 + 2 * number
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[:] = np.linspace(0, 255, width)[None, :, None]
        pixels[: height // 4] = 0
        paths.append(folder / f"photo {number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def choose(page, paths) -> None:
    page.find_element(By.ID, "files").send_keys("\n".join(map(str, paths)))


def pixels_of(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture)


def mask_of(server: Served, path: Path, threshold: float = 0.5) -> bytes:
    return httpx.post(f"{server.address}predict?threshold={threshold}", content=path.read_bytes()).content


def shown_mask(page, number: int) -> np.ndarray:
    """Where the mask of a photo is drawn, (H, W) True and False."""
    script = """
        const canvas = document.querySelectorAll(".photo")[arguments[0]].querySelector("canvas");
        const { width, height } = canvas;
        const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
        return [width, height, [...data.filter((_, place) => place % 4 === 3)]];
    """
    width, height, opacity = page.execute_script(script, number)
    return np.array(opacity).reshape(height, width) > 0


def downloaded(page, downloads: Path) -> zipfile.ZipFile:
    wait(page).until(lambda _: (downloads / "simclrseg.zip").exists())
    content = (downloads / "simclrseg.zip").read_bytes()
    (downloads / "simclrseg.zip").unlink()
    return zipfile.ZipFile(io.BytesIO(content))


def test_chosen_photos_get_masks_which_come_as_a_zip(page, server, tmp_path, downloads):
    paths = write_photos(tmp_path, 3)
    choose(page, paths)
    assert all_done(page, 3) == "3 of 3 photos done."
    for number, path in enumerate(paths):
        expected = pixels_of(mask_of(server, path)) > 0
        np.testing.assert_array_equal(shown_mask(page, number), expected)
    facts = page.find_elements(By.CSS_SELECTOR, ".facts p:first-child")[0].text
    assert "cat 37 % · 60 x 40 pixels · confidence" in facts
    page.find_element(By.ID, "download").click()
    packed = downloaded(page, downloads)
    assert packed.testzip() is None
    assert packed.namelist() == [f"photo {n}.{kind}.png" for n in range(3) for kind in ("mask", "overlay")]
    for path in paths:
        assert packed.read(f"{path.stem}.mask.png") == mask_of(server, path)
        photo, mask = pixels_of(path.read_bytes()), pixels_of(mask_of(server, path))
        seen = pixels_of(packed.read(f"{path.stem}.overlay.png"))
        np.testing.assert_array_equal(seen, overlay(photo, (mask > 0).astype(np.uint8), voc_colours(2)))


def test_dropped_photos_are_done_while_a_broken_one_says_why_in_a_line(page, tmp_path):
    first, second = write_photos(tmp_path, 2)
    files = [("a.png", first.read_bytes()), ("broken.jpg", b"no photo"), ("empty.jpg", b"")]
    files.append(("a.png", second.read_bytes()))
    page.execute_script(DROP, [(name, base64.b64encode(content).decode()) for name, content in files])
    assert all_done(page, 4) == "2 of 4 photos done, 2 could not be read: the lines below say why."
    bad, empty = page.find_elements(By.CSS_SELECTOR, ".bad")
    assert bad.text.startswith("not a picture that can be read (JPEG, PNG") and empty.text == "the file is empty"
    assert [title.text for title in page.find_elements(By.TAG_NAME, "h2")] == [
        "a.png",
        "broken.jpg",
        "empty.jpg",
        "a.png",
    ]
    page.find_element(By.ID, "clear").click()
    assert not page.find_elements(By.CSS_SELECTOR, ".photo") and status(page) == "Cleared."
    assert page.switch_to.active_element.get_attribute("id") == "files"
    page.execute_script(DROP, [("b.png", base64.b64encode(first.read_bytes()).decode())])
    assert all_done(page, 1) == "1 of 1 photo done."


def test_everything_is_reached_and_worked_by_keys_alone(page, server, tmp_path, downloads):
    (path,) = write_photos(tmp_path, 1)

    def press(*keys: str) -> None:
        webdriver.ActionChains(page, duration=0).send_keys(*keys).perform()

    def focused() -> str:
        return page.switch_to.active_element.get_attribute("id")

    press(Keys.TAB)
    assert page.switch_to.active_element.text == "To the results"
    press(Keys.TAB)
    assert focused() == "files"
    outline = "return getComputedStyle(document.querySelector('#files + label')).outlineStyle"
    assert page.execute_script(outline) == "solid"
    choose(page, [path])  # where the system's own window opens, which no page sees
    all_done(page, 1)
    before = shown_mask(page, 0)
    press(Keys.TAB, Keys.ARROW_RIGHT)  # from overlay to mask
    assert page.execute_script("return document.querySelector('.photo .under').hidden")
    press(Keys.ARROW_LEFT, Keys.TAB, Keys.ARROW_LEFT)
    assert focused() == "strength"
    assert page.find_element(By.CSS_SELECTOR, ".photo canvas").value_of_css_property("opacity") == "0.49"
    press(Keys.TAB)
    assert focused() == "threshold"
    press(*[Keys.ARROW_LEFT] * 10)
    wait(page).until(lambda page: shown_mask(page, 0).sum() > before.sum() and "1 of 1" in status(page))
    low = pixels_of(mask_of(server, path, 0.4)) > 0
    wait(page).until(lambda page: np.array_equal(shown_mask(page, 0), low))
    assert page.find_element(By.ID, "threshold-value").text == "0.4"
    all_done(page, 1)
    press(Keys.TAB)
    assert focused() == "download"
    press(Keys.ENTER)
    packed = downloaded(page, downloads)
    assert packed.read("photo 0.mask.png") == mask_of(server, path, 0.4)


def test_twenty_photos_at_once_are_done_in_their_order(page, tmp_path):
    paths = write_photos(tmp_path, 20)
    choose(page, paths)
    assert all_done(page, 20) == "20 of 20 photos done."
    assert [title.text for title in page.find_elements(By.TAG_NAME, "h2")] == [path.name for path in paths]
    for number in range(20):
        assert shown_mask(page, number).shape == (40 + number, 60 + 2 * number)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_readable_and_fits_on_phones_and_desktops_by_day_and_night(browser, server, tmp_path, size, dark):
    page = opened(browser, server.address, size=SIZES[size], dark=dark)
    (tmp_path / "broken and of a name that is longer than a phone is wide_______________________.jpg").write_bytes(b"x")
    choose(page, [*write_photos(tmp_path, 2), *tmp_path.glob("broken*")])
    all_done(page, 3)
    contrasts = page.execute_script(CONTRASTS)
    assert len(contrasts) > 15 and min(contrasts)[0] >= 4.5, min(contrasts)
    assert page.execute_script("return document.documentElement.scrollWidth") <= SIZES[size][0]
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, ground[4:-1].split(","))) < 60) == dark


def test_nothing_comes_from_elsewhere_and_nothing_is_complained_of(page, server, tmp_path):
    choose(page, write_photos(tmp_path, 1))
    all_done(page, 1)
    names = page.execute_script("return performance.getEntriesByType('resource').map(({ name }) => name)")
    assert names and all(name.startswith((server.address, f"blob:{server.address}", "data:")) for name in names)
    page.get_log("browser")  # of the tests before
    page.refresh()
    wait(page).until(lambda page: "class" in page.find_element(By.ID, "model").text)
    assert page.get_log("browser") == []


def test_a_classifier_shows_labels_with_their_scores(browser, tmp_path, downloads):
    Image.new("RGB", (30, 20), (10, 200, 10)).save(tmp_path / "leaf.png")
    with served(tmp_path, "--model", str(write_classifier(tmp_path / "colours.onnx"))) as server:
        page = opened(browser, server.address)
        choose(page, [tmp_path / "leaf.png"])
        all_done(page, 1)
        (scores,) = page.find_elements(By.CSS_SELECTOR, ".scores")
        assert scores.text.split("\n")[:2] == ["green", "91 %"]
        assert not page.find_element(By.ID, "threshold").is_displayed()
        page.find_element(By.ID, "download").click()
        packed = downloaded(page, downloads)
        assert json.loads(packed.read("leaf.json"))["label"] == "green"


@pytest.mark.parametrize("names", [("blue", "green", "red", "nir"), ("vv", "vh", "dem", "nir")])
def test_a_model_of_four_bands_shows_its_red_green_and_blue_where_there_are_any(browser, tmp_path, downloads, names):
    pixels = np.repeat(np.linspace(0, 255, 60).astype(np.uint8)[None, :, None], 40, 0).repeat(4, 2)
    pixels[:10, :, 2] = 0
    (tmp_path / "field.tif").write_bytes(geotiff(pixels, names=names))
    model, coloured = write_segmenter(tmp_path / "fields.onnx", bands=names, image_size=64), "red" in names
    with served(tmp_path, "--model", str(model)) as server:
        page = opened(browser, server.address)
        choose(page, [tmp_path / "field.tif"])
        assert all_done(page, 1) == "1 of 1 photo done."
        content = (tmp_path / "field.tif").read_bytes()
        assert page.find_element(By.ID, "views").is_displayed() == coloured
        under, canvas = (page.find_element(By.CSS_SELECTOR, f".photo {name}") for name in (".under", "canvas"))
        assert under.is_displayed() == coloured
        assert canvas.value_of_css_property("opacity") == ("0" if coloured else "1")
        page.find_element(By.ID, "download").click()
        packed = downloaded(page, downloads)
        assert packed.namelist() == [f"field.{kind}.png" for kind in ("mask", *["overlay"] * coloured)]
        answer = httpx.post(f"{server.address}predict?as=overlay", content=content)
        assert (answer.status_code == 200) == coloured
        if coloured:
            wait(page).until(lambda page: under.get_property("naturalWidth") == 60)
            assert packed.read("field.overlay.png") == answer.content
            seen, mask = pixels_of(answer.content), pixels_of(packed.read("field.mask.png"))
            assert seen[20][mask[20] == 0].std(axis=1).max() < 3 and seen[5, 29, 0] == 0 < seen[20, 29, 0]
            page.find_element(By.CSS_SELECTOR, "input[value=mask]").click()
            assert not under.is_displayed() and canvas.value_of_css_property("opacity") == "1"
