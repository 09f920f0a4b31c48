"""The benchmark's table, without the measuring."""

from __future__ import annotations

import json

from benchmarks import evaluation


def test_a_package_that_is_not_installed_has_its_row(tmp_path, monkeypatch):
    def measured(_, row, *rest):
        return None if row == "brats-evaluation" else {"seconds": 1.0, "gigabytes": 0.2}

    monkeypatch.setattr(evaluation, "_in_own_process", measured)
    monkeypatch.setattr(evaluation, "time_processes", lambda *_: 1.0)
    monkeypatch.setattr("sys.argv", ["benchmark", "--output", str(tmp_path)])
    evaluation.main()
    assert "| brats-evaluation | not installed |" in (tmp_path / "evaluation.md").read_text()
    rows = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    assert rows.keys() == set(evaluation.ROWS)
