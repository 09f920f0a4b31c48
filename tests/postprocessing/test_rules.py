"""Each rule on a synthetic case."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunetv2_s2ca.brats.regions import Region, scheme_of_regions
from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.segmentations import read_labels
from nnunetv2_s2ca.postprocessing.rules import (
    PostprocessingRules,
    check_rules,
    nest,
    papers_rules,
    postprocess,
)
from tests.evaluation.shapes import DATASET, ball, blobs, write_labels

# nnU-Net's labels: 1 oedema, 2 core without enhancement, 3 enhancing
REGIONS = (Region("WT", (1, 2, 3)), Region("TC", (2, 3)), Region("ET", (3,)))
SHAPE = (40, 30, 30)


def tumour() -> np.ndarray:
    """Oedema around a core with an enhancing rim of more than 400 voxels."""
    labels = np.zeros(SHAPE, np.uint8)
    for label, radius in ((1, 10), (3, 7), (2, 5)):
        labels[ball(SHAPE, (14, 14, 14), radius)] = label
    return labels


def row(labels: np.ndarray, start: tuple[int, int, int], voxels: int, label: int) -> np.ndarray:
    x, y, z = start
    labels[x, y, z : z + voxels] = label
    return labels


def clean(labels, rules):
    return postprocess(labels, rules, regions=REGIONS)


@pytest.mark.parametrize(("voxels", "label_after"), [(9, 0), (10, 1)])
def test_whole_tumour_components_under_n_become_background(voxels, label_after):
    labels = row(tumour(), (35, 5, 5), voxels, 1)
    cleaned = clean(labels, papers_rules(REGIONS))
    assert cleaned[35, 5, 5] == label_after
    assert (cleaned[:30] == labels[:30]).all()


@pytest.mark.parametrize(("voxels", "label_after"), [(9, 1), (10, 2)])
def test_core_components_under_n_become_oedema(voxels, label_after):
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:25, 2:25, 2:25] = 1
    row(labels, (20, 20, 5), voxels, 2)
    assert clean(labels, papers_rules(REGIONS))[20, 20, 5] == label_after


@pytest.mark.parametrize(("voxels", "label_after"), [(9, 2), (10, 3)])
def test_enhancing_components_under_n_become_core_without_enhancement(voxels, label_after):
    inside = np.zeros(SHAPE, np.uint8)
    inside[2:25, 2:25, 2:25] = 2
    row(inside, (14, 14, 9), voxels, 3)
    rules = PostprocessingRules({"WT": 10, "TC": 10, "ET": 10})
    assert clean(inside, rules)[14, 14, 9] == label_after


def test_components_that_touch_by_a_corner_are_one():
    labels = np.zeros(SHAPE, np.uint8)
    for step in range(10):
        labels[step + 3, step + 3, step + 3] = 1
    assert (clean(labels, papers_rules(REGIONS)) == labels).all()


@pytest.mark.parametrize(("enhancing", "label_after"), [(399, 2), (400, 3)])
def test_too_little_enhancing_tumour_becomes_core_without_enhancement(enhancing, label_after):
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:30, 2:28, 2:28] = 2
    block = np.full(400, 2, np.uint8)
    block[:enhancing] = 3
    labels[4:12, 4:14, 4:9] = block.reshape(8, 10, 5)
    cleaned = clean(labels, papers_rules(REGIONS))
    assert cleaned[4, 4, 4] == label_after
    assert np.count_nonzero(cleaned) == np.count_nonzero(labels)


def test_enhancing_specks_are_removed_before_the_rest_is_counted():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:38, 2:28, 2:28] = 2
    labels[4:14, 4:14, 4:8] = 3  # 400 voxels
    labels[14, 4, 4] = 3  # attached
    labels[30, 20, 20] = 3  # a speck, which the total must not count
    rules = PostprocessingRules({"ET": 10}, 402)
    assert not (clean(labels, rules) == 3).any()
    rules = PostprocessingRules({"ET": 10}, 401)
    assert np.count_nonzero(clean(labels, rules) == 3) == 401


def test_holes_are_filled_with_the_regions_own_label():
    labels = tumour()
    labels[14, 14, 23] = 0  # a hole in the oedema
    labels[14, 14, 14] = 1  # oedema within the core
    labels[14, 13, 14] = 0  # background within the core
    cleaned = clean(labels, PostprocessingRules(fill_holes=True))
    assert cleaned[14, 14, 23] == 1
    assert cleaned[14, 14, 14] == 2
    assert cleaned[14, 13, 14] == 2


def test_necrosis_within_the_enhancing_rim_is_no_hole():
    labels = tumour()
    assert (clean(labels, PostprocessingRules(fill_holes=True)) == labels).all()


def test_a_hole_open_to_the_outside_stays():
    labels = tumour()
    labels[14, 14, 20:] = 0
    assert (clean(labels, PostprocessingRules(fill_holes=True)) == labels).all()


def test_no_rules_change_nothing_and_the_input_is_left_as_it_is():
    labels = row(tumour(), (35, 5, 5), 3, 3)
    before = labels.copy()
    assert (clean(labels, PostprocessingRules()) == labels).all()
    clean(labels, papers_rules(REGIONS, fill_holes=True))
    assert (labels == before).all()


def test_an_empty_segmentation_stays_empty():
    labels = np.zeros(SHAPE, np.uint8)
    assert not clean(labels, papers_rules(REGIONS, fill_holes=True)).any()


def test_pediatric_labels_become_the_lowest_of_what_surrounds_them():
    # 1 ET, 2 NET, 3 CC, 4 ED
    scheme = scheme_of_regions({"WT": (1, 2, 3, 4), "TC": (1, 2, 3), "ET": (1,)})
    nested = {place.region.name: place for place in nest(scheme.regions)}
    assert nested["ET"].label_if_removed == 2
    assert nested["TC"].label_if_removed == 4
    assert nested["WT"].label_if_removed == 0
    assert nested["WT"].label_of_holes == 4
    assert nested["ET"].label_of_holes is None


def test_separate_labels_are_cleaned_each_by_itself():
    scheme = scheme_of_regions({"edema": (1,), "core": (2,)})
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:10, 2:10, 2:10] = 1
    labels[4:6, 4:6, 4:6] = 2  # 8 voxels
    rules = PostprocessingRules({"core": 10}, fill_holes=True)
    cleaned = postprocess(labels, rules, regions=scheme.regions)
    assert set(np.unique(cleaned)) == {0, 1}


# the MSD's, and nnU-Net's own names of BraTS' labels in another order
@pytest.mark.parametrize(
    "labels",
    [
        {"edema": (1,), "non-enhancing tumor": (2,), "enhancing tumour": (3,)},
        {"enhancing tumor": (3,), "NCR": (2,), "ED": (1,)},
    ],
    ids=lambda labels: next(iter(labels)),
)
def test_of_separate_labels_enhancing_tumour_becomes_the_core_without_enhancement(labels):
    regions = scheme_of_regions(labels).regions
    little = row(np.minimum(tumour(), 2), (14, 14, 14), 5, 3)
    row(little, (35, 5, 5), 5, 3)
    cleaned = postprocess(little, PostprocessingRules({}, 400), regions=regions)
    assert (cleaned == np.minimum(little, 2)).all()
    # a speck of it becomes one of the core, which is then removed as such
    cleaned = postprocess(little, papers_rules(regions), regions=regions)
    assert (cleaned == np.minimum(tumour(), 2)).all()


def test_enhancing_tumour_is_not_relabelled_where_no_label_is_the_core_without_it():
    regions = scheme_of_regions({"edema": (1,), "enhancing tumor": (3,)}).regions
    with pytest.raises(UserError, match="edema, ET"):
        check_rules(papers_rules(regions), regions)
    check_rules(PostprocessingRules({"ET": 10}), regions)


LABEL_NAMES = [
    # the MSD's; BraTS' in the order of the source; nnU-Net's names of regions; SNFH in full
    {"edema": (1,), "non-enhancing tumor": (2,), "enhancing tumour": (3,)},
    {"NCR/NET": (2,), "ED": (1,), "ET": (3,)},
    {"whole tumor": (1,), "tumor core": (2,), "enhancing tumor": (3,)},
    {
        "surrounding non-enhancing FLAIR hyperintensity": (1,),
        "necrotic tumor core": (2,),
        "GD-enhancing tumor": (3,),
    },
]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    names=st.sampled_from(LABEL_NAMES),
    sizes=st.tuples(*[st.sampled_from([0, 5, 20, 80])] * 3),
    enhancing=st.sampled_from([0, 60, 300]),
    fill_holes=st.booleans(),
)
def test_separate_labels_give_what_regions_give(seed, names, sizes, enhancing, fill_holes):
    labels = np.zeros((20, 18, 16), np.uint8)
    rng = np.random.default_rng(seed)
    for label in rng.permutation(np.repeat((1, 2, 3), 2)):
        labels[blobs(int(rng.integers(10_000)), shape=labels.shape, share=0.08)] = label
    specks = rng.random(labels.shape) < 0.03
    labels[specks] = rng.integers(0, 4, np.count_nonzero(specks))
    rules = PostprocessingRules(
        dict(zip(("WT", "TC", "ET"), sizes, strict=True)), enhancing, fill_holes
    )
    separate = scheme_of_regions(names).regions
    check_rules(rules, separate)
    assert (postprocess(labels, rules, regions=separate) == clean(labels, rules)).all()


def test_separate_labels_of_children_give_what_their_regions_give():
    # nnU-Net's labels: 1 oedema, 2 non-enhancing, 3 enhancing, 4 cystic component
    regions = scheme_of_regions(
        {"WT": (1, 2, 3, 4), "TC": (2, 3, 4), "ET": (3,), "cystic component": (4,)}
    ).regions
    names = {"ED": (1,), "NET": (2,), "ET": (3,), "cystic component": (4,)}
    separate = scheme_of_regions(names).regions
    labels = np.random.default_rng(0).integers(0, 5, (20, 18, 16)).astype(np.uint8)
    labels[blobs(3, shape=labels.shape, share=0.8)] = 0
    rules = papers_rules(separate)
    assert rules == papers_rules(regions)
    expected = postprocess(labels, rules, regions=regions)
    assert (postprocess(labels, rules, regions=separate) == expected).all()
    assert (expected != labels).any()


def test_small_parts_within_a_tumour_of_separate_labels_leave_no_hole():
    labels = np.minimum(tumour(), 2)
    for start, label in (((14, 14, 14), 1), ((14, 14, 21), 2), ((14, 10, 14), 3)):
        row(labels, start, 2, label)
    separate = scheme_of_regions(LABEL_NAMES[0]).regions
    cleaned = postprocess(labels, papers_rules(separate), regions=separate)
    assert ((cleaned > 0) == (labels > 0)).all()


def test_labels_of_other_names_are_cleaned_by_themselves():
    separate = scheme_of_regions(LABEL_NAMES[0] | {"resection cavity": (4,)}).regions
    labels = row(tumour(), (35, 5, 5), 3, 4)
    row(labels, (2, 2, 5), 20, 4)
    cleaned = postprocess(labels, papers_rules(separate), regions=separate)
    assert (cleaned[:30] == labels[:30]).all()
    assert not cleaned[30:].any()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(*[st.sampled_from([0, 5, 20, 80])] * 3),
    enhancing=st.sampled_from([0, 60, 300]),
)
def test_what_is_left_keeps_the_rules_and_a_second_pass_changes_nothing(seed, sizes, enhancing):
    import cc3d

    labels = np.zeros((24, 22, 20), np.uint8)
    for label, share in ((1, 0.2), (2, 0.1), (3, 0.06)):
        labels[blobs(seed, shape=labels.shape, share=share)] = label
    labels[blobs(seed + 1, shape=labels.shape, share=0.02)] = 3
    rules = PostprocessingRules(dict(zip(("WT", "TC", "ET"), sizes, strict=True)), enhancing)
    cleaned = clean(labels, rules)
    for region, size in zip(REGIONS, sizes, strict=True):
        mask = region.mask(cleaned)
        components = cc3d.connected_components(mask, connectivity=26)
        assert (np.bincount(components.ravel())[1:] >= size).all()
        assert not (mask & ~region.mask(labels)).any()
    assert np.count_nonzero(cleaned == 3) >= enhancing or not (cleaned == 3).any()
    assert (clean(cleaned, rules) == cleaned).all()


@pytest.fixture
def predictions(tmp_path):
    folder = tmp_path / "in"
    write_labels(tumour(), folder / "clean.nii.gz", spacing=(1, 2, 3), origin=(4, 5, 6))
    write_labels(row(tumour(), (35, 5, 5), 3, 1), folder / "speck.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    return folder


def run(*arguments) -> int:
    return main(["postprocess", *map(str, arguments), "-np", "1"])


def test_the_command_uses_the_papers_sizes_and_keeps_names_and_geometry(predictions, capsys):
    output = predictions.parent / "out"
    assert run("-i", predictions, "-o", output) == 0
    assert "2 cases written" in capsys.readouterr().out
    assert sorted(path.name for path in output.iterdir()) == [
        "clean.nii.gz",
        "dataset.json",
        "speck.nii.gz",
    ]
    before, image_before = read_labels(predictions / "clean.nii.gz")
    after, image = read_labels(output / "clean.nii.gz")
    assert (before == after).all()
    assert after.dtype == before.dtype
    assert (image.affine == image_before.affine).all()
    assert image.header.get_zooms() == image_before.header.get_zooms()
    assert (read_labels(output / "speck.nii.gz")[0] == tumour()).all()


def test_the_command_leaves_existing_output_unless_asked(predictions, capsys):
    output = predictions.parent / "out"
    output.mkdir()
    (output / "speck.nii.gz").write_text("the user's own")
    assert run("-i", predictions, "-o", output) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (output / "speck.nii.gz").read_text() == "the user's own"
    assert run("-i", predictions, "-o", output, "--overwrite") == 0


def test_the_command_does_not_write_into_its_input(predictions, capsys):
    assert run("-i", predictions, "-o", predictions, "--overwrite") == 1
    assert "another output" in capsys.readouterr().err


def test_rules_of_another_dataset_are_refused(predictions, capsys):
    rules = predictions.parent / "rules.json"
    PostprocessingRules({"GTV": 10}).write(rules)
    assert run("-i", predictions, "-o", predictions.parent / "out", "--apply", rules) == 1
    assert "GTV" in capsys.readouterr().err


def test_bad_files_are_all_named_and_nothing_is_written(predictions, capsys):
    write_labels(row(tumour(), (35, 5, 5), 3, 7), predictions / "label_7.nii.gz")
    (predictions / "empty.nii.gz").write_bytes(b"")
    before = sorted(predictions.parent.iterdir())
    assert run("-i", predictions, "-o", predictions.parent / "out") == 1
    message = capsys.readouterr().err
    assert "2 cases have problems" in message
    assert "label_7.nii.gz" in message
    assert "empty.nii.gz" in message
    assert sorted(predictions.parent.iterdir()) == before


def test_an_output_that_is_a_file_is_refused(predictions, capsys):
    assert run("-i", predictions, "-o", predictions / "dataset.json", "--overwrite") == 1
    assert "dataset.json is a file" in capsys.readouterr().err


def test_a_folder_in_the_place_of_the_rules_is_named(predictions, capsys):
    assert run("-i", predictions, "-o", predictions.parent / "out", "--apply", predictions) == 1
    assert f"{predictions} is a folder; expected a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"smallest_component_voxels": 3}',
        *(
            json.dumps(
                {
                    "smallest_component_voxels": {"WT": 10},
                    "smallest_enhancing_voxels": 0,
                    "fill_holes": False,
                }
                | wrong
            )
            for wrong in (
                *(
                    {"smallest_component_voxels": {"WT": size}}
                    for size in (np.inf, -5, 9.9, True, "9")
                ),
                *({"smallest_enhancing_voxels": size} for size in (np.nan, np.inf, -1, 0.5, None)),
                *({"fill_holes": fill} for fill in ("false", 1)),
            )
        ),
    ],
)
def test_a_damaged_rules_file_is_named(predictions, capsys, content):
    rules = predictions.parent / "rules.json"
    rules.write_text(content)
    assert run("-i", predictions, "-o", predictions.parent / "out", "--apply", rules) == 1
    assert "rules.json" in capsys.readouterr().err
