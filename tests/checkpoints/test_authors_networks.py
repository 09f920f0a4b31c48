"""The authors' networks at full size, imported: golden outputs, and a real patient's window."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn
from torch.nn import functional as F

from nnunetv2_s2ca import startup
from nnunetv2_s2ca.checkpoints.importing import import_checkpoints
from nnunetv2_s2ca.training import TRAINERS
from tests import golden
from tests.checkpoints import authors

startup.register()

REAL_CASES = Path(__file__).parents[2] / "../shared/real_cases/MICCAI_BraTS_2019_Data_Training/LGG"
CASE = "BraTS19_TCIA_DU7294_1"
MODALITIES = ("t1", "t1ce", "t2", "flair")


def _load(model: Path, *, deep_supervision: bool) -> tuple[nn.Module, PlansManager]:
    """The network of fold 0, as nnU-Net builds it, and the plans."""
    manager = PlansManager(str(model / "plans.json"))
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    network = TRAINERS[checkpoint["trainer_name"]].build_network_architecture(
        manager, manager.get_configuration("3d_fullres"), 4, 3, deep_supervision
    )
    network.load_state_dict(checkpoint["network_weights"])
    return network.eval(), manager


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s2ca_net", "s2ca_net_release"])
def test_imported_network_gives_the_golden_outputs(tmp_path, name):
    file = authors.save(tmp_path / "a.pkl", golden.state_dict(name), zipped=False)
    network, _ = _load(import_checkpoints([file], output=tmp_path / "model"), deep_supervision=True)
    t1, t2, t1ce, flair = golden.golden_input((1, 4, 128, 128, 128))[0]
    with torch.no_grad():
        heads = network(torch.stack([t1, t1ce, t2, flair])[None])
    expected = golden.outputs()
    h, w, d = expected[f"{name}/voxels"].T
    regions = [3, 2, 1]  # WT, TC, ET among the authors' background, ET, TC, WT
    for i, head in enumerate(heads):
        full = F.interpolate(head, size=(128, 128, 128), mode="trilinear")[0]
        std = expected[f"{name}/head{i}/std"][regions]
        samples = expected[f"{name}/head{i}/samples"][regions]
        error = np.abs(full[:, h, w, d].numpy() - samples) / std[:, None]
        # the border rule of the deformable convolution is a jump, which rounding can trigger
        assert np.quantile(error, 0.99) < 1e-3
        assert error.max() < 0.05


@pytest.mark.slow
@pytest.mark.skipif(not REAL_CASES.exists(), reason="the real patients are not beside the checkout")
def test_real_patients_window_gives_the_authors_logits(tmp_path):
    files = {m: REAL_CASES / CASE / f"{CASE}_{m}.nii.gz" for m in MODALITIES}
    # theirs: arrays as stored, 240×240×160, zero mean and unit variance over everything
    volumes = []
    for modality in ("t1", "t2", "t1ce", "flair"):
        volume = np.pad(nib.load(files[modality]).get_fdata(), ((0, 0), (0, 0), (3, 2)))
        volumes.append((volume - volume.mean()) / volume.std())
    theirs = np.stack(volumes).astype(np.float32)

    state = golden.state_dict("s2ca_net")
    file = authors.save(tmp_path / "a.pkl", state)
    network, manager = _load(
        import_checkpoints([file], output=tmp_path / "model"), deep_supervision=False
    )
    configuration = manager.get_configuration("3d_fullres")
    ours, _, _ = configuration.preprocessor_class(verbose=False).run_case(
        [str(files[m]) for m in MODALITIES],
        None,
        manager,
        configuration,
        str(tmp_path / "model" / "dataset.json"),
    )
    assert ours.shape == (4, 240, 240, 160)
    # a corner: half of it beyond the head, and the padding within
    window = (slice(None), slice(112, 240), slice(0, 128), slice(32, 160))
    brain = nib.load(files["flair"]).get_fdata()[112:240, :128, 32:] != 0
    assert 0.05 < brain.mean() < 0.6
    with torch.no_grad():
        logits = network(torch.from_numpy(np.ascontiguousarray(ours[window]))[None])[0]
        del network
        reference = authors.network_of(
            state,
            patch_size=128,
            features_per_stage=(16, 32, 64, 128),
            encoder_branches=((256, 6), (512, 2)),
            decoder_branches=((256, 4), (512, 2)),
        )
        reference.decoder.deep_supervision = False
        _background, et, tc, wt = reference(torch.from_numpy(theirs[window].copy())[None])[0]
    for region, expected in zip(logits, (wt, tc, et), strict=True):
        error = ((region - expected).abs() / expected.std()).numpy()
        # the largest is 1e-5 where no rounding triggers the deformable convolution's jump
        assert np.quantile(error, 0.9999) < 1e-3
        assert error.max() < 0.05
