"""The viewer: which cases and layers it finds, the static page, and the browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import nnunetv2_s2ca
from nnunetv2_s2ca import UserError, cli
from nnunetv2_s2ca.reporting.case_files import CaseFiles
from nnunetv2_s2ca.synthetic.brats import write_brats2019
from nnunetv2_s2ca.viewer.cases import find_cases
from nnunetv2_s2ca.viewer.layers import difference
from tests.browser import (
    LONGEST,
    chromium,
    errors_of,
    keep_screenshot,
    pixels,
    serious_faults,
    set_colours,
)
from tests.reporting.synthetic_runs import save, write_cross_validation
from tests.waiting import wait_for

NAMES = ["BraTS19_SYN_001_1", "BraTS19_SYN_002_1", "BraTS19_SYN_003_1"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("view")
    size = {"shape": (40, 46, 38), "spacing": 4.4}
    trained = write_cross_validation(folder, names=NAMES, folds=1, noise=0.4, **size)
    validation = trained / "fold_0" / "validation"
    image = nib.load(validation / f"{NAMES[0]}.nii.gz")
    heat = np.random.default_rng(0).random(image.shape).astype(np.float32)
    save(heat, image.affine, validation, f"{NAMES[0]}_uncertainty")
    return folder


def _validation(base: Path) -> Path:
    model = "nnUNetTrainerS2CA__nnUNetPlans__3d_fullres"
    return base / "nnUNet_results" / "Dataset043_BraTS2019" / model / "fold_0" / "validation"


def _data(page: Path) -> dict:
    text = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)[1]
    return json.loads(text)


def test_a_prediction_is_shown_with_sequences_truth_and_uncertainty(base):
    raw = base / "nnUNet_raw" / "Dataset043_BraTS2019"
    path = _validation(base) / f"{NAMES[0]}.nii.gz"
    cases, problems = find_cases([path], reference=raw / "labelsTr", images=[raw / "imagesTr"])
    assert problems == []
    expected = {"T1", "T1ce", "T2", "FLAIR", "truth", "prediction", "uncertainty"}
    assert set(cases[0].paths) == expected


def test_cases_of_an_evaluated_run_come_worst_first(base, tmp_path):
    raw = base / "nnUNet_raw" / "Dataset043_BraTS2019"
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for name in NAMES:
        content = (_validation(base) / f"{name}.nii.gz").read_bytes()
        (predictions / f"{name}.nii.gz").write_bytes(content)
    nnunetv2_s2ca.evaluate(
        raw / "labelsTr", predictions, dataset_json=raw / "dataset.json", processes=1
    )
    cases, _ = find_cases([predictions])
    dice = [case.dice for case in cases]
    assert len(dice) == 3
    assert dice == sorted(dice)


def test_a_patients_folder_is_shown(tmp_path):
    folders = write_brats2019(tmp_path / "d", patients=1, shape=(20, 22, 18), spacing=10.0)
    cases, _ = find_cases([Path(folders[0])])
    assert set(cases[0].paths) == {"T1", "T1ce", "T2", "FLAIR", "truth"}


def test_a_patient_of_segment_is_shown_with_the_scans(base, tmp_path):
    raw = base / "nnUNet_raw" / "Dataset043_BraTS2019" / "imagesTr"
    content = {
        "segmentation": str(_validation(base) / f"{NAMES[0]}.nii.gz"),
        "scans": {"t1ce": str(raw / f"{NAMES[0]}_0001.nii.gz")},
        "volumes_ml": {},
    }
    (tmp_path / "r.json").write_text(json.dumps(content))
    cases, _ = find_cases([tmp_path / "r.json"])
    assert set(cases[0].paths) == {"T1ce", "prediction", "uncertainty"}


def test_static_page_is_the_same_whenever_it_is_written(base, tmp_path, monkeypatch):
    raw = base / "nnUNet_raw" / "Dataset043_BraTS2019"
    case = tmp_path / f"{NAMES[0]}.nii"
    nib.save(nib.load(_validation(base) / f"{NAMES[0]}.nii.gz"), case)
    pages = []
    for day in range(2):
        monkeypatch.setattr("time.time", lambda day=day: 1.7e9 + 86400 * day)
        page = tmp_path / f"{day}.html"
        nnunetv2_s2ca.view(case, reference=raw / "labelsTr", static=page)
        pages.append(page.read_bytes())
    assert pages[0] == pages[1]


def test_files_that_are_no_images_are_named_and_left_out(base, tmp_path):
    raw = base / "nnUNet_raw" / "Dataset043_BraTS2019"
    secret = tmp_path / "secret"
    secret.write_text("not an image")
    (tmp_path / "case.nii.gz").symlink_to(secret)
    good = raw / "labelsTr" / f"{NAMES[0]}.nii.gz"
    cases, problems = find_cases([tmp_path / "case.nii.gz", good])
    assert [case.files.case for case in cases] == [NAMES[0]]
    assert any("case.nii.gz" in problem for problem in problems)
    with pytest.raises(UserError, match="nothing to view"):
        find_cases([tmp_path / "case.nii.gz"])


def test_the_difference_tells_missed_false_and_other_labels(tmp_path):
    truth, prediction = np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 2), np.uint8)
    truth[0, 0, 0], prediction[0, 0, 1] = 1, 2
    truth[1, 1, 1], prediction[1, 1, 1] = 3, 2
    truth[1, 0, 0] = prediction[1, 0, 0] = 2
    save(truth, np.diag([2, 2, 2, 1]), tmp_path, "t")
    save(prediction, np.diag([2, 2, 2, 1]), tmp_path, "p")
    content = difference(CaseFiles("x", tmp_path / "p.nii.gz", tmp_path / "t.nii.gz"))
    image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    found = np.asarray(image.dataobj)
    assert (found[0, 0, 0], found[0, 0, 1], found[1, 1, 1], found.sum()) == (1, 2, 3, 6)
    assert np.array_equal(image.affine, np.diag([2, 2, 2, 1]))


def test_the_static_page_holds_every_volume_and_asks_for_nothing(base, tmp_path, capsys):
    page = tmp_path / "view.html"
    path = str(_validation(base) / f"{NAMES[0]}.nii.gz")
    assert cli.main(["view", path, "--static", str(page)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    layers = _data(page)["cases"][0]["layers"]
    content = base64.b64decode(layers["prediction"].partition(",")[2])
    assert content == Path(path).read_bytes()
    assert all(address.startswith("data:") for address in layers.values())
    assert not re.search(
        r'(src|href)="(?!#|data:)', page.read_text(encoding="utf-8").split("<script>")[0]
    )
    assert cli.main(["view", path, "--static", str(page)]) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_a_hostile_name_stays_text(base, tmp_path):
    name = "<img src=x onerror=alert(1)>"
    content = (_validation(base) / f"{NAMES[0]}.nii.gz").read_bytes()
    (tmp_path / f"{name}.nii.gz").write_bytes(content)
    page = nnunetv2_s2ca.view(tmp_path / f"{name}.nii.gz", static=tmp_path / "v.html")
    assert "<img" not in page.read_text(encoding="utf-8")
    assert _data(page)["cases"][0]["name"] == name


def test_in_a_notebook_the_missing_package_is_named(base, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(UserError, match="pip install ipyniivue"):
        nnunetv2_s2ca.view(_validation(base) / f"{NAMES[0]}.nii.gz")


def test_in_a_notebook_the_widget_gets_sequence_and_prediction(base, monkeypatch):
    class Widget:
        def load_volumes(self, volumes):
            self.volumes = volumes

    module = type(sys)("ipyniivue")
    module.NiiVue = Widget
    monkeypatch.setitem(sys.modules, "ipyniivue", module)
    raw = base / "nnUNet_raw" / "Dataset043_BraTS2019"
    path = _validation(base) / f"{NAMES[0]}.nii.gz"
    widget = nnunetv2_s2ca.view(path, images=raw / "imagesTr")
    assert [volume["path"].name for volume in widget.volumes] == [
        f"{NAMES[0]}_0003.nii.gz",
        path.name,
    ]


@pytest.fixture
def viewer(base):
    """The command, running; yields the address."""
    command = [
        sys.executable,
        "-u",
        "-m",
        "nnunetv2_s2ca.cli",
        "view",
        str(_validation(base).parents[1]),
    ]
    with subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        yield line.rpartition(" at ")[2].strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stdout.read().endswith("the viewer has ended\n")


def _shown(browser) -> str:
    state = "return window.s2ca && window.s2ca.state"
    wait_for(lambda: browser.execute_script(state) in ("shown", "failed"), seconds=LONGEST)
    assert browser.execute_script(state) == "shown", browser.find_element("id", "place").text
    return browser.find_element("id", "place").text


def _choose(browser, control: str, value: str) -> None:
    browser.execute_script(
        "const c = document.getElementById(arguments[0]); c.value = arguments[1];"
        "c.dispatchEvent(new Event('input')); c.dispatchEvent(new Event('change'))",
        control,
        value,
    )


@pytest.mark.slow
def test_the_viewer_in_a_browser(viewer, tmp_path):
    with chromium(tmp_path) as browser:
        set_colours(browser, "dark")
        browser.get(viewer)
        _shown(browser)
        seen = [pixels(browser, "#canvas")]
        assert len(np.unique(seen[0].reshape(-1, 3), axis=0)) > 50
        keep_screenshot(browser, "view-dark")
        for control, value in (
            ("sequence", "T1ce"),
            ("overlay", "truth"),
            ("overlay", "difference"),
            ("opacity", "0.1"),
            ("overlay", "uncertainty"),
            ("window", "50"),
            ("view", "axial"),
        ):
            _choose(browser, control, value)
            _shown(browser)
            seen.append(pixels(browser, "#canvas"))
            assert (seen[-1] != seen[-2]).any(), (control, value)
        browser.execute_script("document.querySelectorAll('#cases button')[1].click()")
        _shown(browser)
        seen.append(pixels(browser, "#canvas"))
        assert (seen[-1] != seen[-2]).any()
        assert browser.title == NAMES[1]
        browser.find_element("css selector", "#canvas").click()
        place = browser.find_element("id", "place").text
        assert re.search(r"\d mm .* mm .* mm .*T1ce: ", place), place
        set_colours(browser, "light")
        _choose(browser, "view", "multi")
        _choose(browser, "opacity", "0.6")
        keep_screenshot(browser, "view-light")
        assert errors_of(browser) == []
        assert serious_faults(browser) == []


@pytest.mark.slow
def test_the_static_page_draws_from_disk(base, tmp_path):
    path = _validation(base) / f"{NAMES[0]}.nii.gz"
    images = base / "nnUNet_raw" / "Dataset043_BraTS2019" / "imagesTr"
    page = nnunetv2_s2ca.view(path, images=images, static=tmp_path / "view.html")
    with chromium(tmp_path / "profile") as browser:
        browser.get(page.as_uri())
        _shown(browser)
        assert len(np.unique(pixels(browser, "#canvas").reshape(-1, 3), axis=0)) > 50
        assert errors_of(browser) == []
