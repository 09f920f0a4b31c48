"""How nnU-Net's search for names meets ours."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import pytest
from nnunetv2.preprocessing.preprocessors import default_preprocessor
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnUNetModule
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_s2ca import link, startup


def test_nnunets_own_trainers_are_found_as_before():
    startup.register()
    assert recursive_find_trainer_class_by_name("nnUNetTrainer") is nnUNetModule.nnUNetTrainer
    assert recursive_find_trainer_class_by_name("nnUNetTrainer_5epochs").__module__.startswith(
        "nnunetv2."
    )


def test_unknown_names_are_not_found():
    startup.register()
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer"):
        recursive_find_trainer_class_by_name("nnUNetTrainerS2CA_nonsense")


def test_modules_keep_their_own_attribute_errors():
    startup.register()
    assert not hasattr(nnUNetModule, "nonsense")
    assert not hasattr(default_preprocessor, "nonsense")


def test_registering_twice_changes_nothing():
    startup.register()
    before = list(sys.meta_path), nnUNetModule.__getattr__
    startup.register()
    assert (list(sys.meta_path), nnUNetModule.__getattr__) == before


def test_a_modules_own_getattr_is_still_asked():
    name = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer"
    module = types.ModuleType(name)
    module.__getattr__ = {"legacy": 42}.__getitem__
    startup._extend(module)
    assert module.legacy == 42
    assert module.nnUNetTrainerS2CA.__name__ == "nnUNetTrainerS2CA"


def test_a_broken_package_shows_only_to_those_who_ask_for_it(monkeypatch):
    startup.register()
    monkeypatch.setitem(sys.modules, "nnunetv2_s2ca.training", None)  # its import now fails
    assert recursive_find_trainer_class_by_name("nnUNetTrainer_5epochs")
    with pytest.raises(ImportError):
        recursive_find_trainer_class_by_name("nnUNetTrainerS2CA")


def test_startup_imports_only_the_standard_library():
    code = (
        "import sys; before = set(sys.modules); import nnunetv2_s2ca.startup as s; s.register();"
        "print([m for m in set(sys.modules) - before if m.partition('.')[0] not in"
        " {*sys.stdlib_module_names, 'nnunetv2_s2ca'}])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_pth_line_is_silent_where_the_package_is_gone(tmp_path):
    line = link.PTH_FILE.read_text()
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", line], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_link_that_cannot_be_written_says_what_else_works(monkeypatch, tmp_path):
    monkeypatch.setattr(link, "pth_target", lambda: tmp_path / "missing" / "x.pth")
    with pytest.raises(link.UserError, match="nnUNet_extTrainer"):
        link.link()


def test_link_is_removed_also_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(link, "pth_target", lambda: tmp_path / "x.pth")
    link.link()
    for _ in range(2):
        assert link.unlink() == tmp_path / "x.pth"
        assert list(tmp_path.iterdir()) == []


def test_link_that_cannot_be_removed_says_where_it_is_and_who_may(monkeypatch, tmp_path):
    # nobody may unlink a folder
    monkeypatch.setattr(link, "pth_target", lambda: tmp_path)
    with pytest.raises(link.UserError, match="as the user who wrote it") as error:
        link.unlink()
    assert str(tmp_path) in str(error.value)


def test_trainer_is_found_through_the_environment_variable_where_pth_files_are_not_read():
    training = link.PTH_FILE.with_name("training")
    code = (
        "import sys;"
        "sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != '_Finder'];"
        "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find;"
        "print('found', find('nnUNetTrainerS2CA').__name__)"
    )
    output = subprocess.check_output(
        [sys.executable, "-c", code],
        text=True,
        env={**os.environ, "nnUNet_extTrainer": training},
    )
    assert output.splitlines()[-1] == "found nnUNetTrainerS2CA"
