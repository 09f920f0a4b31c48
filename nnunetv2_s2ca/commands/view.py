"""`s2ca view`: look at cases in the browser, in three planes and 3D."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_dataset_json, add_overwrite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line offers."""
    parser.add_argument(
        "cases",
        type=Path,
        nargs="+",
        metavar="CASE",
        help="folder of predictions, trained model, results of `s2ca evaluate`, patient's folder, "
        "or segmentation",
    )
    parser.add_argument(
        "--ref", dest="reference", type=Path, metavar="PATH", help="true segmentations"
    )
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        default=(),
        metavar="PATH",
        help="folder of images, or the images of one segmentation",
    )
    add_dataset_json(parser)
    parser.add_argument(
        "--static", type=Path, metavar="FILE", help="write one HTML file and start no server"
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    add_overwrite(parser, "an earlier file of --static")


def run(args: argparse.Namespace) -> None:
    """Write the file, or serve until Ctrl-C."""
    given = {name: getattr(args, name) for name in ("reference", "images", "dataset_json")}
    if args.static is not None:
        print(nnunetv2_s2ca.view(args.cases, static=args.static, overwrite=args.overwrite, **given))
        return
    try:
        nnunetv2_s2ca.serve_viewer(
            args.cases, port=args.port, open_browser=not args.no_browser, **given
        )
    except KeyboardInterrupt:
        print("the viewer has ended")
