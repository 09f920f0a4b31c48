"""The folds of a cross-validation as nnU-Net keeps them."""

from __future__ import annotations

import json

import pytest

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.folds import fold_folders, read_splits


def test_folders_of_folds_are_told_from_what_lies_beside_them(tmp_path):
    for name in ("fold_10", "fold_2", "fold_all", "fold_0_old", "fold_", "old_fold_1"):
        (tmp_path / name).mkdir()
    (tmp_path / "fold_3").touch()
    assert list(fold_folders(tmp_path).items()) == [
        (2, tmp_path / "fold_2"),
        (10, tmp_path / "fold_10"),
    ]


def test_splits_are_read_as_nnunet_writes_them(tmp_path):
    splits = [{"train": ["b", "c"], "val": ["a"]}, {"train": ["a"], "val": ["b", "c"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    assert read_splits(tmp_path / "splits_final.json") == splits


@pytest.mark.parametrize("text", ["", "{oops", "[]", "{}", "3", "[3]", '[{"train": ["a"]}]'])
def test_damaged_splits_are_named(tmp_path, text):
    (tmp_path / "splits_final.json").write_text(text)
    with pytest.raises(UserError, match=r"splits_final\.json"):
        read_splits(tmp_path / "splits_final.json")
