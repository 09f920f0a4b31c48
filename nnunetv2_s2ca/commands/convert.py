"""`s2ca convert`: write a BraTS download as an nnU-Net dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_dataset_id, add_overwrite, add_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("edition", help="such as brats2019; an unknown one lists them all")
    parser.add_argument("source", type=Path, help="folder of the unzipped download")
    add_dataset_id(parser, required=False)
    parser.add_argument("--name", help="name of the dataset, after the id")
    some = "take these sequences only, such as t1ce flair (default: all)"
    parser.add_argument("--channels", nargs="+", metavar="SEQUENCE", help=some)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--link", action="store_true", help="refer to the images where they are")
    how.add_argument("--copy", action="store_true", help="copy the images (the default)")
    parser.add_argument(
        "--deep", action="store_true", help="with --link: read the images, as --copy always does"
    )
    parser.add_argument("--skip-invalid", action="store_true", help="skip invalid cases")
    add_overwrite(parser, "an existing dataset")
    add_processes(parser)


def run(args: argparse.Namespace) -> None:
    converted = nnunetv2_s2ca.convert(
        args.edition,
        args.source,
        dataset_id=args.dataset_id,
        name=args.name,
        channels=args.channels,
        link=args.link,
        deep=args.deep,
        skip_invalid=args.skip_invalid,
        overwrite=args.overwrite,
        processes=args.processes,
    )
    print(converted)
