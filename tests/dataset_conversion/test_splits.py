"""Folds in which no patient stands twice."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunetv2_s2ca import cli
from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.dataset_conversion.convert import convert
from nnunetv2_s2ca.dataset_conversion.patients import patient_of
from nnunetv2_s2ca.dataset_conversion.source import find_cases
from nnunetv2_s2ca.dataset_conversion.splits import make_splits, write_splits
from tests.dataset_conversion.synthetic_cases import write_case, write_download


@st.composite
def _cohorts(draw):
    """Random ids of BraTS-GLI with one to four sessions, and a stratum of each case."""
    numbers = draw(st.lists(st.integers(0, 99999), min_size=5, max_size=40, unique=True))
    names = [
        f"BraTS-GLI-{number:05d}-{session:03d}"
        for number in numbers
        for session in range(draw(st.integers(1, 4)))
    ]
    return {name: draw(st.sampled_from(["with ET", "without ET"])) for name in names}


@given(_cohorts(), st.integers(0, 2**31 - 1))
def test_no_patient_in_two_folds_and_every_case_validated_once(strata, seed):
    patients = {name: patient_of(EDITIONS["brats2023-gli"], name) for name in strata}
    splits = make_splits(patients, strata, seed=seed)
    assert len(splits) == 5
    for split in splits:
        assert not {patients[n] for n in split["train"]} & {patients[n] for n in split["val"]}
        assert {*split["train"], *split["val"]} == set(strata)
        assert split["val"]
    validated = Counter(name for split in splits for name in split["val"])
    assert validated == Counter(dict.fromkeys(strata, 1))


@pytest.mark.parametrize(
    ("edition", "identifier", "patient"),
    [
        ("brats2019", "BraTS19_CBICA_AAB_1", "CBICA_AAB"),
        ("brats2019", "BraTS19_TCIA10_346_1", "TCIA10_346"),
        ("brats2018", "Brats18_2013_11_1", "2013_11"),
        ("brats2020", "BraTS20_Training_355", "BraTS20_Training_355"),
        ("brats2021", "BraTS2021_00495", "BraTS2021_00495"),
        ("brats2023-gli", "BraTS-GLI-00005-001", "BraTS-GLI-00005"),
        ("brats2024-men-rt", "BraTS-MEN-RT-0001-1", "BraTS-MEN-RT-0001"),
        ("msd-task01", "BRATS_001", "BRATS_001"),
    ],
)
def test_patient_of_a_case(edition, identifier, patient):
    assert patient_of(EDITIONS[edition], identifier) == patient


def test_strata_are_spread_evenly():
    names = [f"case_{n:03d}" for n in range(100)]
    strata = {name: "LGG" if n < 25 else "HGG" for n, name in enumerate(names)}
    for split in make_splits({name: name for name in names}, strata):
        assert Counter(strata[n] for n in split["val"]) == {"LGG": 5, "HGG": 15}


def test_order_of_the_cases_does_not_matter():
    names = [f"case_{n:03d}" for n in range(20)]
    patients = {name: name for name in names}
    strata = dict.fromkeys(names, "")
    assert make_splits(patients, strata) == make_splits(dict(reversed(patients.items())), strata)


def test_fewer_patients_than_folds_are_refused():
    patients = {"a": "p", "b": "p", "c": "q"}
    with pytest.raises(cli.UserError, match="folds=2"):
        make_splits(patients, dict.fromkeys(patients, ""))
    assert len(make_splits(patients, dict.fromkeys(patients, ""), folds=2)) == 2


@pytest.mark.parametrize("option", [{"folds": 1}, {"folds": -2}, {"seed": -1}, {"seed": 2**32}])
def test_folds_and_seeds_that_cannot_be_are_refused(option):
    patients = {name: name for name in "abcdef"}
    ((name, value),) = option.items()
    with pytest.raises(cli.UserError, match=f"`{name}` is {value}; expected"):
        make_splits(patients, dict.fromkeys(patients, ""), **option)


def test_splits_are_written_where_nnunet_reads_them(tmp_path, nnunet_folders, capsys):
    write_download(tmp_path / "source", EDITIONS["brats2019"], count=10)
    convert(EDITIONS["brats2019"], tmp_path / "source", processes=1)
    assert cli.main(["splits", "-d", "43"]) == 0
    file = nnunet_folders / "nnUNet_preprocessed/Dataset043_BraTS2019/splits_final.json"
    splits = json.loads(file.read_text())
    assert [len(split["val"]) for split in splits] == [2] * 5
    assert "HGG  LGG" in capsys.readouterr().out
    # both grades in each fold
    grades = {c.identifier: c.grade for c in find_cases(EDITIONS["brats2019"], tmp_path / "source")}
    assert all({grades[n] for n in split["val"]} == {"HGG", "LGG"} for split in splits)


def test_other_folds_are_kept_unless_told_otherwise(tmp_path, nnunet_folders):
    write_download(tmp_path / "source", EDITIONS["brats2021"], count=6)
    convert(EDITIONS["brats2021"], tmp_path / "source", processes=1)
    path, _ = write_splits(137)
    write_splits(137)  # the same once more is no harm
    with pytest.raises(cli.UserError, match="overwrite=True"):
        write_splits(137, seed=7)
    write_splits(137, seed=7, overwrite=True)
    assert len(json.loads(path.read_text())) == 5


NAME_MAPPING = """\
Grade,BraTS_2017_subject_ID,BraTS_2019_subject_ID,TCGA_TCIA_subject_ID,BraTS_2020_subject_ID
HGG,Brats17_CBICA_AAB_1,BraTS19_CBICA_AAB_1,NA,BraTS20_Training_001
LGG,NA,BraTS19_TCIA_X_1,TCGA-DU-7294,BraTS20_Training_002
LGG,NA,BraTS19_TCIA_Y_1,TCGA-DU-7294,BraTS20_Training_003
"""


@pytest.fixture
def source_2020(tmp_path):
    for number in (1, 2, 3):
        name = f"BraTS20_Training_{number:03d}"
        write_case(tmp_path / "source" / name, EDITIONS["brats2020"], name)
    return tmp_path / "source"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_name_mapping_links_editions_and_tells_grades(source_2020, encoding, line_end):
    (source_2020 / "name_mapping.csv").write_bytes(
        NAME_MAPPING.replace("\n", line_end).encode(encoding)
    )
    cases = find_cases(EDITIONS["brats2020"], source_2020)
    assert [(case.patient, case.grade) for case in cases] == [
        ("CBICA_AAB", "HGG"),
        ("TCGA-DU-7294", "LGG"),
        ("TCGA-DU-7294", "LGG"),
    ]


@pytest.mark.parametrize("cell", ["", "NA", "n/a", "#N/A", "<NA>", "nan", "None", "NULL", "-"])
def test_cells_without_a_name_join_no_patients(source_2020, cell):
    names = [f"BraTS20_Training_{number:03d}" for number in (1, 2, 3)]
    rows = [f"HGG,{cell},{name}" for name in names]
    header = "Grade,TCGA_TCIA_subject_ID,BraTS_2020_subject_ID"
    (source_2020 / "name_mapping.csv").write_text("\n".join([header, *rows]))
    cases = find_cases(EDITIONS["brats2020"], source_2020)
    assert len({case.patient for case in cases}) == 3


def test_sessions_spelled_in_other_capitals_are_one_patient(tmp_path):
    edition = EDITIONS["brats2023-gli"]
    for name in ("BraTS-GLI-00000-000", "BRATS-GLI-00000-001", "BraTS-GLI-00001-000"):
        write_case(tmp_path / name, edition, name)
    patients = {case.identifier: case.patient for case in find_cases(edition, tmp_path)}
    assert patients["BraTS-GLI-00000-000"] == patients["BRATS-GLI-00000-001"]
    assert len(set(patients.values())) == 2


HEAD = (
    "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID"
)


@pytest.mark.parametrize("place", [".", ".."], ids=["in the source", "beside the grade's folder"])
@pytest.mark.parametrize(
    "rows",
    [
        ["HGG,NA,NA,TCGA-02-0100,BraTS19_TCIA02_100_1"],  # the second session is in no table
        [
            "HGG,Brats17_TCIA_100_1,NA,NA,BraTS19_TCIA02_100_1",
            "HGG,NA,Brats18_TCIA02_100_9,NA,BraTS19_TCIA02_100_2",
        ],
        [
            "HGG,Brats17_TCIA_100_1,NA,NA,BraTS19_TCIA02_100_1",
            "HGG,Brats17_TCIA_100_2,NA,TCGA-02-0100,BraTS19_TCIA02_100_2",
        ],
    ],
    ids=["one session unnamed", "other first editions", "one row with the collection's name"],
)
def test_any_name_that_two_cases_share_makes_them_one_patient(tmp_path, rows, place):
    source = tmp_path / "download" / "HGG"
    for number in (1, 2):
        name = f"BraTS19_TCIA02_100_{number}"
        write_case(source / name, EDITIONS["brats2019"], name)
    write_case(source / "BraTS19_CBICA_AAB_1", EDITIONS["brats2019"], "BraTS19_CBICA_AAB_1")
    (source / place / "name_mapping.csv").write_text("\n".join([HEAD, *rows]) + "\n")
    patients = {c.identifier: c.patient for c in find_cases(EDITIONS["brats2019"], source)}
    assert patients["BraTS19_TCIA02_100_1"] == patients["BraTS19_TCIA02_100_2"]
    assert patients["BraTS19_CBICA_AAB_1"] == "CBICA_AAB"


@pytest.mark.parametrize(
    "content",
    [
        NAME_MAPPING.replace(",", ";").encode(),
        NAME_MAPPING.encode("utf-16"),
        NAME_MAPPING.replace("_subject_ID", "").encode(),
        b"",
    ],
    ids=["semicolons", "UTF-16", "other columns", "nothing"],
)
def test_name_mapping_that_would_be_passed_over_is_refused(source_2020, content):
    (source_2020 / "name_mapping.csv").write_bytes(content)
    with pytest.raises(cli.UserError, match=r"name_mapping\.csv names no case; expected"):
        find_cases(EDITIONS["brats2020"], source_2020)


def test_dataset_of_unknown_origin_is_refused(nnunet_folders):
    (nnunet_folders / "nnUNet_raw" / "Dataset043_Other").mkdir()
    with pytest.raises(cli.UserError, match="not made by `s2ca convert`"):
        write_splits(43)
