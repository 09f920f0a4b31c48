"""Headless Chromium for tests of pages; they skip where it is not installed."""

from __future__ import annotations

import base64
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--hide-scrollbars", "--window-size=1360,850"),
)
LONGEST = 180  # seconds that a page may take to draw on a busy machine without a GPU
# where a run with this variable leaves its screenshots, which the gallery shows
PICTURES = os.environ.get("S2CA_SCREENSHOTS")


@contextmanager
def chromium(profile: Path) -> Iterator:
    """A browser with an empty profile."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if program is None or driver is None:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_script_timeout(LONGEST)
    try:
        yield browser
    finally:
        browser.quit()


def set_colours(browser, scheme: str) -> None:
    """Have pages see a system setting of "light" or "dark" colours."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def errors_of(browser) -> list[str]:
    """What the console holds besides remarks on the speed of software rendering."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def serious_faults(browser) -> list[str]:
    """What axe-core finds of serious or critical impact."""
    try:
        package = resources.files("axe_selenium_python")
    except ModuleNotFoundError:
        pytest.skip("axe-selenium-python is not installed")
    path = os.environ.get("AXE_CORE")
    script = Path(path) if path else package.joinpath("node_modules/axe-core/axe.min.js")
    browser.execute_script(script.read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[arguments.length - 1]; axe.run().then(done)"
    )
    return [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]


def pixels(browser, selector: str) -> np.ndarray:
    """The picture of an element, `(rows, columns, 3)`."""
    content = base64.b64decode(browser.find_element("css selector", selector).screenshot_as_base64)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def keep_screenshot(browser, name: str) -> None:
    """Leave the window's picture in `S2CA_SCREENSHOTS`, small enough for the documentation."""
    if PICTURES:
        picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        picture.save(Path(PICTURES) / f"{name}.png", optimize=True)
