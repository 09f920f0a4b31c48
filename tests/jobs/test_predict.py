"""`s2ca predict`: parts that together are the whole."""

from __future__ import annotations

import pytest

from tests.jobs.conftest import predict


def test_parts_together_predict_every_case_once(nnunet, images, calls):
    assert predict(nnunet, "--jobs", "2") == 0
    assert sorted(path.name for path in (nnunet / "out").glob("*.nii.gz")) == [
        f"case_{case}.nii.gz" for case in range(5)
    ]
    parts = [call["arguments"][call["arguments"].index("-part_id") + 1] for call in calls()]
    assert sorted(parts) == ["0", "1"]


def test_the_model_and_further_options_reach_nnunet(nnunet, images, calls):
    assert predict(nnunet, "-tr", "nnUNetTrainer", "--", "--disable_tta", "-step_size", "0.7") == 0
    (call,) = calls()
    line = " ".join(call["arguments"])
    assert "-d 43 -c 3d_fullres -tr nnUNetTrainer -p nnUNetPlans -f 0 1 -device cpu" in line
    assert "--disable_tta -step_size 0.7 -num_parts 1 -part_id 0 --continue_prediction" in line


def test_there_are_no_more_parts_than_cases(nnunet, images, calls):
    assert predict(nnunet, "--jobs", "9") == 0
    assert len(calls()) == 5


def test_a_second_call_starts_nothing(nnunet, images, calls, capsys):
    assert predict(nnunet, "--backend", "debug") == 0
    capsys.readouterr()
    assert predict(nnunet) == 0
    assert len(calls()) == 1
    assert capsys.readouterr().out == f"5 cases are in {nnunet / 'out'}\n"


def test_probabilities_that_are_asked_for_later_are_still_predicted(nnunet, images, calls):
    assert predict(nnunet, "--backend", "debug") == 0
    for _ in range(2):
        assert predict(nnunet, "--backend", "debug", "--", "--save_probabilities") == 0
    assert len(calls()) == 2


def test_a_case_without_prediction_is_named(nnunet, images, capsys):
    assert predict(nnunet, "--", "--forget") == 1
    assert "case_3" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", ["-2", "0", "many"])
def test_an_impossible_number_of_jobs_is_refused(nnunet, images, calls, capsys, jobs):
    with pytest.raises(SystemExit):
        predict(nnunet, "--jobs", jobs)
    assert "argument --jobs: expected a whole number" in capsys.readouterr().err
    assert not calls()


def test_a_folder_without_images_is_named(nnunet, capsys):
    (nnunet / "images").mkdir()
    assert predict(nnunet) == 1
    assert "holds no images" in capsys.readouterr().err
