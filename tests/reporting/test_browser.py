"""The report in a real browser."""

from __future__ import annotations

import pytest

import nnunetv2_s2ca
from tests.browser import chromium, errors_of, keep_screenshot, serious_faults, set_colours
from tests.reporting.synthetic_runs import write_cross_validation

pytestmark = pytest.mark.slow
NAMES = [f"BraTS19_SYN_{number:03d}_1" for number in range(1, 11)]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    base = tmp_path_factory.mktemp("page")
    size = {"shape": (48, 56, 46), "spacing": 3.6, "folds": 3, "noise": 0.4}
    first = write_cross_validation(base, names=NAMES, probabilities=True, **size)
    size["noise"] = 0.5
    other = "nnUNetTrainer__nnUNetPlans__3d_fullres"
    second = write_cross_validation(base, names=NAMES, model=other, **size)
    nnunetv2_s2ca.report(first, base / "one.html", processes=1, pictures=3)
    nnunetv2_s2ca.report([second, first], base / "two.html", processes=1, pictures=1)
    return base


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("name", ["one", "two"])
def test_the_page_has_no_error_and_no_serious_fault(page, browser, name, colours):
    set_colours(browser, colours)
    browser.get((page / f"{name}.html").as_uri())
    keep_screenshot(browser, f"report-{name}-{colours}")
    assert errors_of(browser) == []
    assert serious_faults(browser) == []


def test_the_button_switches_the_colours(page, browser):
    set_colours(browser, "light")
    browser.get((page / "one.html").as_uri())
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(colour)
    button = browser.find_element("id", "theme")
    button.click()
    assert browser.execute_script(colour) != light
    button.click()
    assert browser.execute_script(colour) == light
    browser.execute_script("localStorage.clear()")


def test_names_and_marks_lead_to_pictures_that_are_drawn(page, browser):
    browser.get((page / "one.html").as_uri())
    link = browser.find_element("css selector", "#cases tbody a")
    browser.execute_script("arguments[0].click()", link)
    target = browser.execute_script("return document.querySelector(':target').id")
    assert target == link.get_attribute("href").partition("#")[2]
    browser.execute_script(
        "document.querySelector(':target').scrollIntoView({behavior: 'instant'})"
    )
    keep_screenshot(browser, "report-case")
    mark = browser.find_element("css selector", "path[data-href]")
    browser.execute_script("arguments[0].dispatchEvent(new Event('click', {bubbles: true}))", mark)
    target = browser.execute_script("return document.querySelector(':target').id")
    assert target == mark.get_attribute("data-href")
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('.planes svg')]"
        ".map(picture => picture.getBoundingClientRect().width)"
    )
    assert len(sizes) == 36  # six cases, two sequences, three planes
    assert min(sizes) > 50


def test_outlines_can_be_hidden_and_tables_sorted(page, browser):
    browser.get((page / "one.html").as_uri())
    shown = "return getComputedStyle(document.querySelector('.outline.truth')).display"
    assert browser.execute_script(shown) != "none"
    box = browser.find_element("css selector", "input[data-hides=truth]")
    browser.execute_script("arguments[0].click()", box)
    assert browser.execute_script(shown) == "none"
    head = browser.find_elements("css selector", "#cases th button")[3]
    browser.execute_script("arguments[0].click()", head)
    values = browser.execute_script(
        "return [...document.querySelectorAll('#cases tbody tr')].slice(0, 10)"
        ".map(row => Number(row.children[3].dataset.value))"
    )
    assert values == sorted(values)


def test_the_keyboard_reaches_the_content_first(page, browser):
    from selenium.webdriver.common.keys import Keys

    browser.get((page / "one.html").as_uri())
    browser.find_element("css selector", "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("href").endswith("#main")
