"""Plans for which S2CA-Net cannot be built, and what is said of the others."""

from __future__ import annotations

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_s2ca.training.network_from_plans import build_network

HALVED = [2, 2, 2]
GOOD = {"patch_size": [32, 32, 32], "strides": [[1, 1, 1], HALVED, HALVED, HALVED, HALVED]}
# each with a reason not to build S2CA-Net for it
BAD = {
    "2d": (
        {"patch_size": [64, 64], "strides": [[1, 1], [2, 2], [2, 2], [2, 2]]},
        r"a 3D network, but this configuration plans 2D patches of \[64, 64\]",
    ),
    "three levels": (
        {"patch_size": [16, 16, 16], "strides": [[1, 1, 1], HALVED, HALVED]},
        r"has 4 levels, but this configuration plans 3 for patches of \[16, 16, 16\]",
    ),
    "indivisible": (
        {"patch_size": [40, 44, 32], "strides": GOOD["strides"]},
        "axis 1 has 44 voxels, which must be a multiple of 8",
    ),
    "single voxel": (
        {"patch_size": [8, 8, 8], "strides": GOOD["strides"]},
        r"The patch size \[8, 8, 8\] leaves a single voxel",
    ),
}


def _refusal(name, configurations):
    """The error for one configuration of a plan that has these."""
    plans = PlansManager(
        {
            "configurations": {
                name: {
                    "patch_size": configuration["patch_size"],
                    "architecture": {"arch_kwargs": {"strides": configuration["strides"]}},
                }
                for name, configuration in configurations.items()
            }
        }
    )
    with pytest.raises(ValueError) as error:
        build_network(
            plans, plans.get_configuration(name), 4, 3, deep_supervision=True, arguments={}
        )
    return error


@pytest.mark.parametrize("name", BAD)
def test_refusal_has_a_reason_and_names_the_configurations_that_work(name):
    configurations = {
        **{other: configuration for other, (configuration, _) in BAD.items()},
        "3d_lowres": GOOD,
        "3d_fullres": {**GOOD, "patch_size": [16, 8, 8]},
    }
    expected = BAD[name][1] + r".*Of this plan, these configurations work: 3d_lowres, 3d_fullres\.$"
    assert _refusal(name, configurations).match(expected)


@pytest.mark.parametrize("name", BAD)
def test_refusal_says_where_no_configuration_works(name):
    configuration, reason = BAD[name]
    error = _refusal(name, {name: configuration})
    assert error.match(reason + r".*No configuration of this plan works\.$")
