"""Export trained networks for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from nnunetv2_s2ca.network_export import exporting


@dataclass(frozen=True)
class ExportedNetwork:
    """A network for programs other than nnU-Net.

    Attributes:
        network: the network's file.
        description: JSON file with what else a program needs to predict with it.
        largest_difference: of a logit on a random patch, between this file and our network.
    """

    network: Path
    description: Path
    largest_difference: float

    def __str__(self) -> str:
        return (
            f"wrote {self.network} and {self.description}\n"
            f"its logits on a random patch differ from ours by {self.largest_difference:.1e} at "
            "most"
        )


def export_network(
    model: str | PathLike[str],
    output: str | PathLike[str],
    *,
    format: str = "onnx",
    fold: int | str = 0,
    checkpoint: str = "checkpoint_final.pth",
    overwrite: bool = False,
) -> ExportedNetwork:
    """Write the network of one fold for other programs, and a JSON file with what they need.

    The network takes one patch, (1, C, *patch_size), and returns its logits, (1, K, *patch_size),
    both float32. The file is run once and compared; if it computes something else than our network,
    nothing is written.

    Args:
        model: nnU-Net's folder of a trained or imported model. Its checkpoint is unpickled, as in
            nnU-Net's prediction, so it must come from someone you trust.
        output: folder for `fold_N.FORMAT` and `fold_N.FORMAT.json`; its other files stay.
        format: "onnx" (opset 20; needs the extra `onnx`), or "pt2" (`torch.export`).
        fold: number of the fold, or "all".
        checkpoint: name of the checkpoint in the fold's folder.
        overwrite: replace files of the same names in `output`.

    Raises:
        UserError: The model is incomplete or damaged, a package is missing, the files exist, or the
            exported network's output differs from ours; nothing is written.
    """
    network, description, difference = exporting.export_network(
        Path(model),
        Path(output),
        format_name=format,
        fold=str(fold),
        checkpoint=checkpoint,
        overwrite=overwrite,
    )
    return ExportedNetwork(network, description, difference)
