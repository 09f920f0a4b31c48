"""Options that several commands share, named as in nnU-Net where it has them."""

from __future__ import annotations

import argparse
from pathlib import Path

# what `add_predictor` adds
PREDICTOR = ("model", "folds", "checkpoint", "device", "mirroring", "step_size")


def add_processes(parser: argparse.ArgumentParser) -> None:
    """`-np`, as in nnU-Net."""
    parser.add_argument(
        "-np",
        dest="processes",
        type=positive,
        metavar="N",
        help="number of worker processes (default: all cores)",
    )


def add_dataset_id(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """`-d` with nnU-Net's dataset id."""
    parser.add_argument(
        "-d",
        dest="dataset_id",
        type=int,
        required=required,
        metavar="ID",
        help="dataset id" + ("" if required else " (default: the edition's)"),
    )


def add_overwrite(parser: argparse.ArgumentParser, what: str) -> None:
    """`--overwrite`."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what}")


def add_report(parser: argparse.ArgumentParser) -> None:
    """`--report`."""
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="also write an HTML page, as `s2ca report` does"
    )


def add_dataset_json(parser: argparse.ArgumentParser) -> None:
    """`-djfile`, as in nnU-Net."""
    parser.add_argument(
        "-djfile",
        dest="dataset_json",
        type=Path,
        metavar="FILE",
        help="nnU-Net's dataset.json (default: the one in the folders)",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """`-d`, `-c` and `-p`, as in nnU-Net."""
    parser.add_argument(
        "-d", dest="dataset", type=name, required=True, metavar="DATASET", help="id or name"
    )
    parser.add_argument(
        "-c",
        dest="configuration",
        type=name,
        required=True,
        metavar="CONFIGURATION",
        help="such as 3d_fullres",
    )
    parser.add_argument(
        "-p",
        dest="plans",
        type=name,
        default="nnUNetPlans",
        metavar="PLANS",
        help="default: %(default)s",
    )


def positive(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: The text is something else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text!r}")
    return int(text)


def name(text: str) -> str:
    """A name that is not a path.

    Raises:
        argparse.ArgumentTypeError: The text is empty or has a path separator.
    """
    if not text or Path(text).name != text:
        raise argparse.ArgumentTypeError(f"expected a name, found {text!r}")
    return text


def add_predictor(parser: argparse.ArgumentParser) -> None:
    """nnU-Net's options for a trained model's predictions."""
    add_trained_model(parser)
    parser.add_argument(
        "-device", choices=("cuda", "cpu", "mps"), help="default: a GPU if there is one"
    )


def add_trained_model(parser: argparse.ArgumentParser) -> None:
    """nnU-Net's options that name a trained model and how it predicts, on any device."""
    parser.add_argument(
        "-m",
        dest="model",
        type=Path,
        required=True,
        metavar="MODEL",
        help="folder or zip file of a trained model",
    )
    parser.add_argument(
        "-f", dest="folds", nargs="+", metavar="FOLD", help="default: all that the model has"
    )
    parser.add_argument(
        "-chk",
        dest="checkpoint",
        default="checkpoint_final.pth",
        metavar="NAME",
        help="name of the checkpoints (default: %(default)s)",
    )
    parser.add_argument(
        "--disable_tta",
        dest="mirroring",
        action="store_false",
        help="do not average over mirrored images",
    )
    parser.add_argument(
        "-step_size",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="step of the sliding window, as a share of the patch (default: %(default)s)",
    )


def add_postprocessing(parser: argparse.ArgumentParser) -> None:
    """`--postprocess`, with a file or the model's own rules."""
    parser.add_argument(
        "--postprocess",
        dest="postprocessing",
        nargs="?",
        type=Path,
        const=True,
        default=False,
        metavar="JSON",
        help="apply the rules of `s2ca postprocess --fit`; without a file, the model's own",
    )
