"""The `s2ca` command: parses arguments and calls; the work is done in the other modules."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_s2ca.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `s2ca` command; returns the process' exit code."""
    args = _build_parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except UserError as error:
        print(f"s2ca {args.command}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"s2ca {args.command}: interrupted", file=sys.stderr)
        return 130


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="s2ca", description="S2CA-Net for nnU-Net v2: what nnU-Net's own commands leave open."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_doctor,
        _add_link,
        _add_trainers,
        _add_check,
        _add_convert,
        _add_splits,
        _add_export,
        _add_demo,
        _add_import_checkpoint,
    ):
        add(commands)
    return parser


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("doctor", help="check whether training could start here")
    parser.set_defaults(run=_run_doctor)


def _run_doctor(args: argparse.Namespace) -> int:
    from nnunetv2_s2ca.doctor import examine

    fatal = False
    for finding in examine():
        print(finding)
        fatal |= finding.fatal
    print("Training could not start." if fatal else "Training can start.")
    return int(fatal)


def _add_link(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "link", help="show the trainers to nnU-Net, once after `pip install -e .`"
    )
    parser.add_argument("--remove", action="store_true", help="undo it")
    parser.set_defaults(run=_run_link)


def _run_link(args: argparse.Namespace) -> None:
    from nnunetv2_s2ca.link import link, unlink

    print(f"removed {unlink()}" if args.remove else f"wrote {link()}")


def _add_trainers(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("trainers", help="list the trainers for `nnUNetv2_train -tr`")
    parser.set_defaults(run=_run_trainers)


def _run_trainers(args: argparse.Namespace) -> None:
    from nnunetv2_s2ca.training.catalogue import describe_trainers

    print(describe_trainers())


def _add_check(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("check", help="look at every case of a BraTS download")
    _add_source_arguments(parser)
    parser.set_defaults(run=_run_check)


def _run_check(args: argparse.Namespace) -> int:
    from nnunetv2_s2ca.dataset_conversion.check import check_cases, describe
    from nnunetv2_s2ca.dataset_conversion.editions import edition_named

    edition = edition_named(args.edition)
    checked = check_cases(edition, args.source, processes=args.processes)
    print(describe(edition, checked))
    return int(any(item.case.problems for item in checked))


def _add_convert(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("convert", help="make a BraTS download an nnU-Net dataset")
    _add_source_arguments(parser)
    parser.add_argument("-d", type=int, metavar="ID", help="nnU-Net's dataset id")
    parser.add_argument("--name", help="of the dataset, after the id")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--link", action="store_true", help="refer to the images where they are")
    how.add_argument("--copy", action="store_true", help="copy the images (the default)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    parser.add_argument("--skip-bad", action="store_true", help="go on without cases in trouble")
    parser.set_defaults(run=_run_convert)


def _run_convert(args: argparse.Namespace) -> None:
    from nnunetv2_s2ca.dataset_conversion.convert import convert
    from nnunetv2_s2ca.dataset_conversion.editions import edition_named

    convert(
        edition_named(args.edition),
        args.source,
        dataset_id=args.d,
        name=args.name,
        link=args.link,
        processes=args.processes,
        overwrite=args.overwrite,
        skip_bad=args.skip_bad,
    )


def _add_splits(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("splits", help="write folds in which no patient stands twice")
    parser.add_argument("-d", type=int, required=True, metavar="ID", help="nnU-Net's dataset id")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=12345)
    parser.add_argument("--overwrite", action="store_true", help="replace other folds")
    parser.set_defaults(run=_run_splits)


def _run_splits(args: argparse.Namespace) -> None:
    from nnunetv2_s2ca.dataset_conversion.splits import write_splits

    path, table = write_splits(args.d, folds=args.folds, seed=args.seed, overwrite=args.overwrite)
    print(f"{table}\nwrote {path}")


def _add_export(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("export", help="make predictions files that the challenge takes")
    parser.add_argument("-d", type=int, required=True, metavar="ID", help="nnU-Net's dataset id")
    parser.add_argument("-i", type=Path, required=True, metavar="PREDICTIONS")
    parser.add_argument("-o", type=Path, required=True, metavar="OUT")
    parser.add_argument("--processes", type=int, help="worker processes; all cores if not given")
    parser.set_defaults(run=_run_export)


def _run_export(args: argparse.Namespace) -> None:
    from nnunetv2_s2ca.dataset_conversion.export import export

    written = export(args.d, args.i, args.o, processes=args.processes)
    print(f"wrote {len(written)} files to {args.o}")


def _add_source_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("edition", help="such as brats2019; an unknown one lists them all")
    parser.add_argument("source", type=Path, help="folder of the unzipped download")
    parser.add_argument("--processes", type=int, help="worker processes; all cores if not given")


def _add_import_checkpoint(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "import-checkpoint", help="make an nnU-Net model of weights by S2CA-Net's authors"
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="the authors' .pkl files, one a fold"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="where the model goes, or its dataset's"
    )
    parser.add_argument(
        "--dataset",
        metavar="ID",
        help="dataset that the model is for (without -o it goes to nnU-Net's place for it)",
    )
    parser.add_argument(
        "--describe", action="store_true", help="print what the files hold, and write nothing"
    )
    parser.add_argument(
        "--trust", action="store_true", help="let the files run the code that they bring, if any"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a model that was imported before"
    )
    parser.set_defaults(run=_run_import_checkpoint)


def _run_import_checkpoint(args: argparse.Namespace) -> None:
    if args.describe:
        from nnunetv2_s2ca.checkpoints.description import describe_checkpoint

        for file in args.files:
            print(describe_checkpoint(file, trust=args.trust))
        return
    from nnunetv2_s2ca.checkpoints.importing import import_checkpoints, prediction_command

    folder = import_checkpoints(
        args.files,
        output=args.output,
        dataset=args.dataset,
        trust=args.trust,
        overwrite=args.overwrite,
    )
    print(f"wrote {folder}\npredict with: {prediction_command(folder)}")


def _add_demo(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "demo", help="make up patients, train five folds, predict, compare: minutes on a CPU"
    )
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="folder for all of it")
    parser.add_argument("--patients", type=int, default=12, help="to train on (default: 12)")
    parser.add_argument("--held-out", type=int, default=4, help="to predict (default: 4)")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="FOLD")
    parser.add_argument("--trainer", default="nnUNetTrainerS2CA_demo", help="default: %(default)s")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu")
    parser.add_argument(
        "--min-dice",
        type=float,
        default=0.8,
        metavar="DICE",
        help="fail if the ensemble's whole-tumour Dice is lower (default: %(default)s)",
    )
    parser.set_defaults(run=_run_demo)


def _run_demo(args: argparse.Namespace) -> None:
    from nnunetv2_s2ca.demo import DemoSettings, check_dice, run_demo, scores_table

    settings = DemoSettings(
        patients=args.patients,
        held_out=args.held_out,
        folds=tuple(args.folds),
        trainer=args.trainer,
        device=args.device,
    )
    result = run_demo(args.output, settings)
    print(f"\n{scores_table(result)}\n\nreport: {result.report}\npicture: {result.picture}")
    check_dice(result, args.min_dice)


if __name__ == "__main__":
    sys.exit(main())
