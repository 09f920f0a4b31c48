"""`python -m benchmarks.gpu` without a card: the program whole on a small patch, and its parts."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import gpu, gpu_checks
from benchmarks.gpu_checks import Check
from benchmarks.gpu_report import markdown
from tests.waiting import lives, wait_for

SETUP = {
    "device": "a card",
    "capability": "9.0",
    "memory_gb": 80.0,
    "cuda": "13.0",
    "torch": "2.14",
    "patch": [128, 128, 128],
    "batch": 2,
    "repeats": 10,
}


@pytest.mark.slow
def test_whole_program_on_a_small_patch(tmp_path):
    sizes = ["--patch", "16", "16", "16", "--batch", "1", "--repeats", "1", "--budget", "6000"]
    choice = ["--networks", "S2CA-Net-S", "--modes", "eager"]
    gpu.main(["--device", "cpu", "-o", str(tmp_path), *sizes, *choice])
    assert {path.name for path in tmp_path.iterdir()} == {"cpu.md", "cpu.json"}
    report = json.loads((tmp_path / "cpu.json").read_text())
    names = [check["name"] for check in report["checks"]]
    assert sum(name.startswith("golden output") for name in names) == 7
    assert any("gradients" in name for name in names)
    assert all(check["passed"] for check in report["checks"])
    (row,) = report["rows"]
    assert "error" not in row
    assert all(row[f"{what}_{unit}"] > 0 for what in ("step", "window") for unit in ("s", "gb"))


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_what_was_printed_before_a_failure_counts():
    found = gpu.run_limited(
        program("print('{\"step_s\": 1.5}'); raise RuntimeError('out of memory')"), 60
    )
    assert found == {"step_s": 1.5, "error": "failed: RuntimeError: out of memory"}


def test_program_that_takes_too_long_is_ended_with_its_children(tmp_path):
    child = tmp_path / "child"
    text = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
        f"open({str(child)!r}, 'w').write(str(child.pid))\n"
        "print('{\"step_s\": 1.5}', flush=True)\n"
        "child.wait()\n"
    )
    found = gpu.run_limited(program(text), 15)
    assert found == {"step_s": 1.5, "error": "stopped after 15 s"}
    wait_for(lambda: not lives(int(child.read_text())))


def test_lines_that_are_no_results_are_passed_over():
    text = "print('hello'); print('3'); print('{\"checks\": [1]}'); print('{\"checks\": [2]}')"
    assert gpu.run_limited(program(text), 60) == {"checks": [1, 2]}


def test_environment_reaches_the_program():
    text = "import json, os; print(json.dumps({'switch': os.environ['S2CA_TRITON']}))"
    assert gpu.run_limited(program(text), 60, S2CA_TRITON="1") == {"switch": "1"}


def test_without_a_card_it_says_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--device cpu --patch 16 16 16 -o FOLDER" in capsys.readouterr().err


def test_results_of_cards_are_not_written_by_a_processor(capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cpu"])
    assert "-o is needed with --device cpu" in capsys.readouterr().err


@pytest.fixture
def instead_of_processes(monkeypatch):
    """Stand-ins for the processes of a run: every one succeeds but those named here."""
    calls, failing = [], set()

    def run(command, limit_s, **environment):
        name = command[3] if command[2].endswith("gpu_step") else "checks"
        calls.append((name, environment["S2CA_TRITON"]))
        if name == "checks":
            return {"checks": [{"name": "a", "bound": 1.0, "found": 0.5, "passed": True}]}
        if name in failing:
            return {"step_s": 1.0, "error": "failed: out of memory"}
        return {"step_s": 0.5, "step_gb": 1.0, "window_s": 0.1, "window_gb": 1.0}

    monkeypatch.setattr(gpu, "run_limited", run)
    return calls, failing


def test_network_that_fails_costs_no_other(instead_of_processes, tmp_path):
    _, failing = instead_of_processes
    failing.add("S2CA-Net")
    gpu.main(["--device", "cpu", "-o", str(tmp_path)])
    rows = json.loads((tmp_path / "cpu.json").read_text())["rows"]
    assert len(rows) == 10
    assert [row["network"] for row in rows if "error" in row] == ["S2CA-Net"] * 2
    assert "- S2CA-Net, compiled: failed: out of memory" in (tmp_path / "cpu.md").read_text()


def test_rows_for_which_no_time_is_left_are_named(instead_of_processes, tmp_path):
    calls, _ = instead_of_processes
    with pytest.raises(SystemExit, match="a check failed"):
        gpu.main(["--device", "cpu", "-o", str(tmp_path), "--budget", "5"])
    assert not calls
    report = json.loads((tmp_path / "cpu.json").read_text())
    assert {row["error"] for row in report["rows"]} == {"not run: the time is up"}


def test_checks_that_did_not_run_count_as_failed(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "run_limited", lambda *_, **__: {"error": "stopped after 1 s"})
    with pytest.raises(SystemExit, match="a check failed"):
        gpu.main(["--device", "cpu", "-o", str(tmp_path)])


def test_on_a_card_the_kernels_are_on_in_rows_of_their_own(
    instead_of_processes, tmp_path, monkeypatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(gpu, "_setup", lambda _: dict(SETUP))
    gpu.main(["-o", str(tmp_path), "--modes", "eager"])
    calls, _ = instead_of_processes
    assert [name for name, switch in calls if switch == "1"] == ["S2CA-Net"]
    assert calls[0] == ("checks", "0")
    assert (tmp_path / "cuda.md").exists()
    assert "| S2CA-Net with Triton kernels | eager |" in (tmp_path / "cuda.md").read_text()


def test_page_computes_epochs_folds_and_ratios():
    base = {"network": "nnU-Net default", "mode": "eager", "triton": False}
    ours = {"network": "S2CA-Net", "mode": "eager", "triton": True}
    page = markdown(
        {
            "setup": SETUP,
            "checks": [{"name": "a", "bound": 1e-4, "found": 2e-4, "passed": False}],
            "rows": [
                base | {"step_s": 0.36, "step_gb": 8.0, "window_s": 0.050},
                ours | {"step_s": 0.18, "step_gb": 6.0, "window_s": 0.040, "parameters": 21e6},
            ],
        }
    )
    # 0.18 s · 250 steps = 45 s = 0.0125 h an epoch
    assert (
        "| S2CA-Net with Triton kernels | eager | 0.180 | 0.50 | 0.013 | 12.5 | 6.00 | 0.75 "
        "| 40.0 | 0.80 |  | 21.00 |"
    ) in page
    assert "| a | 2.0e-04 | 1e-04 | **failed** |" in page


def test_checks_fail_by_too_large_an_error_by_none_at_all_and_by_an_exception(monkeypatch, capsys):
    def broken(device):
        raise ValueError("no such operation\non this device")

    checks = [
        Check("near", lambda device: 0.5, 1.0),
        Check("far", lambda device: 2.0, 1.0),
        Check("not a number", lambda device: float("nan"), 1.0),
        Check("broken", broken, 1.0),
    ]
    monkeypatch.setattr(gpu_checks, "_checks", lambda *_: checks)
    gpu_checks.main(["--device", "cpu"])
    found = [json.loads(line)["checks"][0] for line in capsys.readouterr().out.splitlines()]
    assert [check["passed"] for check in found] == [True, False, False, False]
    assert found[3]["error"] == "ValueError: no such operation"
    page = markdown({"setup": SETUP, "checks": found, "rows": []})
    assert "| broken | ValueError: no such operation | | failed |" in page
