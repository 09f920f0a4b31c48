"""`s2ca model`: pack a trained model into one file, install it elsewhere, or show what it is."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import add_overwrite, name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", help="what to do"
    )
    pack = actions.add_parser("pack", help="write what prediction needs to one file")
    of, to = "folder of the trained model", "zip file to write"
    pack.add_argument("-m", dest="model", type=Path, required=True, metavar="FOLDER", help=of)
    pack.add_argument("-o", dest="output", type=Path, required=True, metavar="FILE", help=to)
    folds = "default: all that the model has"
    pack.add_argument("-f", dest="folds", nargs="+", metavar="FOLD", help=folds)
    checkpoints = "name of the checkpoints (default: %(default)s)"
    final = "checkpoint_final.pth"
    pack.add_argument("-chk", dest="checkpoint", type=name, default=final, help=checkpoints)
    rules = "rules of `s2ca postprocess --fit` (default: the model's own)"
    pack.add_argument("--postprocess", dest="postprocessing", type=Path, metavar="JSON", help=rules)
    pack.add_argument("--edition", help="edition of BraTS for the card (default: the dataset's)")
    pack.add_argument("--licence", help="of the weights, for the card (default: the dataset's)")
    add_overwrite(pack, "an existing file")
    install = actions.add_parser("install", help="verify a packed model, and write its folder")
    install.add_argument("file", type=Path, help="zip file of `s2ca model pack`")
    place = "default: the model's place in nnUNet_results"
    install.add_argument("-o", dest="output", type=Path, metavar="FOLDER", help=place)
    add_overwrite(install, "a model that was installed before")
    show = actions.add_parser("show", help="print the model card")
    show.add_argument("model", type=Path, help="folder or zip file of a trained model")
    for part in (pack, install, show):
        part.set_defaults(parser=part)


def run(args: argparse.Namespace) -> None:
    if args.action == "show":
        print(nnunetv2_s2ca.describe_model(args.model))
        return
    if args.action == "install":
        made = nnunetv2_s2ca.install_model(args.file, output=args.output, overwrite=args.overwrite)
        print(made)
        return
    keys = ("folds", "checkpoint", "postprocessing", "edition", "licence", "overwrite")
    options = {key: getattr(args, key) for key in keys}
    print(nnunetv2_s2ca.pack_model(args.model, args.output, **options))
