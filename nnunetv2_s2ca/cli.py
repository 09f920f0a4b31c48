"""The `s2ca` command: parses arguments and calls; the work is done in the other modules."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_s2ca.core.console import finish, provide_streams
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.signals import signals_as_exceptions

if TYPE_CHECKING:
    from nnunetv2_s2ca.jobs.backends import LocalBackend, SlurmBackend


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `s2ca` command; returns the process' exit code."""
    provide_streams()
    command = "s2ca"
    try:
        args = _build_parser().parse_args(argv)
        command = f"s2ca {args.command}"
        # what timm uses of PyTorch is no concern of the user
        warnings.filterwarnings("ignore", r"`torch\.jit\.interface` is deprecated", FutureWarning)
        with signals_as_exceptions():
            code = args.run(args)
    except (UserError, OSError, MemoryError, KeyboardInterrupt) as error:
        return finish(command, error)
    except SystemExit as ending:  # of the parser, or by a signal
        raise SystemExit(finish(command) or ending.code) from None
    return finish(command) or code or 0


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
        _add_evaluate,
        _add_compare,
        _add_postprocess,
        _add_crossval,
        _add_predict,
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
    from nnunetv2_s2ca.brats.editions import edition_named
    from nnunetv2_s2ca.dataset_conversion.check import check_cases, describe

    edition = edition_named(args.edition)
    checked = check_cases(edition, args.source, processes=args.processes)
    print(describe(edition, checked, source=args.source))
    return int(any(item.case.problems for item in checked))


def _add_convert(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("convert", help="make a BraTS download an nnU-Net dataset")
    _add_source_arguments(parser)
    parser.add_argument("-d", type=int, metavar="ID", help="nnU-Net's dataset id")
    parser.add_argument("--name", help="of the dataset, after the id")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--link", action="store_true", help="refer to the images where they are")
    how.add_argument("--copy", action="store_true", help="copy the images (the default)")
    parser.add_argument(
        "--deep", action="store_true", help="with --link: read the images, as --copy always does"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    parser.add_argument("--skip-bad", action="store_true", help="skip cases with problems")
    parser.set_defaults(run=_run_convert)


def _run_convert(args: argparse.Namespace) -> None:
    from nnunetv2_s2ca.brats.editions import edition_named
    from nnunetv2_s2ca.dataset_conversion.convert import convert

    convert(
        edition_named(args.edition),
        args.source,
        dataset_id=args.d,
        name=args.name,
        link=args.link,
        deep=args.deep,
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
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="new or empty folder")
    parser.add_argument(
        "--allow-unknown",
        action="store_true",
        help="take predictions of cases that the dataset does not have, in their own geometry",
    )
    _add_processes(parser)
    parser.set_defaults(run=_run_export)


def _run_export(args: argparse.Namespace) -> None:
    from nnunetv2_s2ca.dataset_conversion.export import export

    written = export(
        args.d, args.i, args.o, processes=args.processes, allow_unknown=args.allow_unknown
    )
    print(f"wrote {len(written)} files to {args.o}")


def _add_source_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("edition", help="such as brats2019; an unknown one lists them all")
    parser.add_argument("source", type=Path, help="folder of the unzipped download")
    _add_processes(parser)


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes", type=_positive, metavar="N", help="worker processes (default: all cores)"
    )


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


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("evaluate", help="score predictions by the challenge's rules")
    parser.add_argument(
        "-ref", type=Path, required=True, metavar="FOLDER", help="folder with the truth"
    )
    parser.add_argument(
        "-pred", type=Path, required=True, metavar="FOLDER", help="folder with predictions"
    )
    parser.add_argument(
        "--edition",
        help="the files hold this edition's own labels, such as brats2019; else they hold "
        "nnU-Net's, and a dataset.json tells the regions",
    )
    parser.add_argument(
        "-djfile", type=Path, metavar="FILE", help="nnU-Net's dataset.json, if not in the folders"
    )
    parser.add_argument(
        "--rules",
        choices=("classic", "lesionwise-2023", "brats-2026"),
        help="default: the edition's own; classic where none is known",
    )
    parser.add_argument(
        "--tolerance", type=float, metavar="MM", help="tolerance of NSD (default: 1)"
    )
    parser.add_argument(
        "-o", type=Path, metavar="FOLDER", help="default: s2ca_evaluation in the predictions"
    )
    _add_processes(parser)
    parser.add_argument(
        "--keep-going", action="store_true", help="score the other cases if some have problems"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results")
    parser.add_argument(
        "--official", action="store_true", help="also run brats-evaluation, if installed"
    )
    parser.set_defaults(run=_run_evaluate)


def _run_evaluate(args: argparse.Namespace) -> int:
    from nnunetv2_s2ca.evaluation.folders import evaluate_folders
    from nnunetv2_s2ca.evaluation.label_meaning import check_labels_are_of_edition
    from nnunetv2_s2ca.evaluation.official import load_official
    from nnunetv2_s2ca.evaluation.regions import (
        find_dataset_json,
        scheme_of_dataset,
        scheme_of_edition,
    )
    from nnunetv2_s2ca.evaluation.results import DEFAULT_FOLDER, summarise_regions
    from nnunetv2_s2ca.evaluation.rules import default_rules, rules_named
    from nnunetv2_s2ca.reporting.tables import evaluation_table

    if args.official and not args.edition:
        raise UserError("--official needs --edition, since it knows the challenge's labels only")
    if args.edition and args.djfile:
        raise UserError("--edition says which labels the files hold; leave out -djfile")
    rules = rules_named(
        args.rules or default_rules(args.edition), edition=args.edition, tolerance=args.tolerance
    )
    if args.edition:
        scheme = scheme_of_edition(args.edition)
        for folder in (args.pred, args.ref):
            check_labels_are_of_edition(folder, edition=args.edition, scheme=scheme)
    else:
        otherwise = ", or, for labels as the challenge has them, the --edition"
        scheme = scheme_of_dataset(
            args.djfile or find_dataset_json(args.pred, args.ref, otherwise=otherwise)
        )
    output = args.o or args.pred / DEFAULT_FOLDER
    result = evaluate_folders(
        args.ref,
        args.pred,
        output=output,
        scheme=scheme,
        rules=rules,
        processes=args.processes or os.cpu_count() or 1,
        keep_going=args.keep_going,
        overwrite=args.overwrite,
        official=load_official(args.edition) if args.official else None,
    )
    summaries = summarise_regions(result, rules)
    print(evaluation_table(summaries, rules=rules, cases=len(result.metrics)))
    print(f"\nmetrics.csv and summary.json are in {output}")
    for problem in result.problems:
        print(f"not evaluated: {problem}", file=sys.stderr)
    return int(bool(result.problems))


def _add_compare(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("compare", help="compare two evaluated runs case by case")
    for name in ("first", "second"):
        parser.add_argument(
            name,
            type=Path,
            metavar="A" if name == "first" else "B",
            help="metrics.csv, or the folder that has it",
        )
    parser.add_argument("-o", type=Path, metavar="FILE", help="write the table as csv, too")
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="compare the common cases if others are in one run only",
    )
    parser.set_defaults(run=_run_compare)


def _run_compare(args: argparse.Namespace) -> int:
    from nnunetv2_s2ca.core.files import check_output_folder
    from nnunetv2_s2ca.evaluation.comparison import compare_tables, unpaired
    from nnunetv2_s2ca.evaluation.metrics_table import read_metrics
    from nnunetv2_s2ca.evaluation.rules import rules_named
    from nnunetv2_s2ca.reporting.tables import comparison_table, write_comparison

    if args.o:
        check_output_folder(args.o.parent)
        if args.o.exists():
            raise UserError(f"{args.o} exists; name another file")
    first, second = read_metrics(args.first), read_metrics(args.second)
    comparisons = compare_tables(
        first,
        second,
        infinity=rules_named(first.rules).infinity_in_means,
        keep_going=args.keep_going,
    )
    print(
        comparison_table(
            comparisons, first=str(args.first), second=str(args.second), rules=first.rules
        )
    )
    if args.o:
        write_comparison(args.o, comparisons)
    left_over = unpaired(first, second)
    for difference in left_over:
        print(f"not compared: {difference}", file=sys.stderr)
    return int(bool(left_over))


def _add_postprocess(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "postprocess", help="remove small components and too little enhancing tumour"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--fit",
        action="store_true",
        help="choose the sizes on a trained model's out-of-fold predictions",
    )
    what.add_argument(
        "--apply", type=Path, metavar="JSON", help="use what --fit wrote, in place of 10 and 400"
    )
    parser.add_argument("-i", type=Path, metavar="FOLDER", help="predictions to clean up")
    parser.add_argument(
        "-m", type=Path, metavar="FOLDER", help="with --fit: nnU-Net's folder of the trained model"
    )
    parser.add_argument(
        "-ref",
        type=Path,
        metavar="FOLDER",
        help="with --fit: the truth (default: gt_segmentations in nnUNet_preprocessed)",
    )
    parser.add_argument(
        "--splits",
        type=Path,
        metavar="FILE",
        help="with --fit: default: splits_final.json in nnUNet_preprocessed",
    )
    parser.add_argument(
        "-o",
        type=Path,
        metavar="PATH",
        help="folder for the output; with --fit the json (default: s2ca_postprocessing.json in -m)",
    )
    parser.add_argument("--fill-holes", action="store_true", help="fill holes of WT and TC, too")
    parser.add_argument("-djfile", type=Path, metavar="FILE", help="nnU-Net's dataset.json")
    _add_processes(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace existing output")
    parser.set_defaults(run=_run_postprocess)


def _run_postprocess(args: argparse.Namespace) -> None:
    if args.fit:
        _fit_postprocessing(args)
    else:
        _apply_postprocessing(args)


def _fit_postprocessing(args: argparse.Namespace) -> None:
    from nnunetv2_s2ca.postprocessing.trained_model import fit_model
    from nnunetv2_s2ca.reporting.tables import fit_table

    if args.m is None:
        raise UserError("--fit needs -m, the folder of the trained model")
    path, fitted, missing = fit_model(
        args.m,
        dataset_json=args.djfile,
        output=args.o,
        reference=args.ref,
        splits=args.splits,
        fill_holes=args.fill_holes,
        processes=args.processes or os.cpu_count() or 1,
        overwrite=args.overwrite,
    )
    print(fit_table(fitted))
    if missing:
        print(
            f"warning: {args.m} has no validation of fold {', '.join(map(str, missing))}; the "
            "cases that it would hold took no part",
            file=sys.stderr,
        )
    print(f"\nwrote {path}; use it with: s2ca postprocess -i IN -o OUT --apply {path}")


def _apply_postprocessing(args: argparse.Namespace) -> None:
    from nnunetv2_s2ca.evaluation.regions import find_dataset_json, scheme_of_dataset
    from nnunetv2_s2ca.postprocessing.folders import postprocess_folder
    from nnunetv2_s2ca.postprocessing.rules import papers_rules, read_rules

    if args.i is None or args.o is None:
        raise UserError("-i and -o are needed: the folders of the predictions and of the output")
    if args.apply and args.fill_holes:
        raise UserError(f"{args.apply} says whether holes are filled; leave out --fill-holes")
    scheme = scheme_of_dataset(args.djfile or find_dataset_json(args.i))
    rules = (
        read_rules(args.apply)
        if args.apply
        else papers_rules(scheme.regions, fill_holes=args.fill_holes)
    )
    applied = postprocess_folder(
        args.i,
        args.o,
        rules=rules,
        scheme=scheme,
        processes=args.processes or os.cpu_count() or 1,
        overwrite=args.overwrite,
    )
    print(f"{applied.cases} cases written to {args.o}, {applied.changed} of them changed")


def _add_crossval(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "crossval", help="train and validate all folds, on this machine or on SLURM"
    )
    parser.add_argument("-d", type=_name, required=True, metavar="DATASET", help="number or name")
    parser.add_argument(
        "-c", type=_name, required=True, metavar="CONFIGURATION", help="such as 3d_fullres"
    )
    parser.add_argument(
        "-tr",
        nargs="+",
        type=_name,
        default=["nnUNetTrainerS2CA"],
        metavar="TRAINER",
        help="one or several",
    )
    parser.add_argument("-p", type=_name, default="nnUNetPlans", metavar="PLANS")
    parser.add_argument(
        "-f", nargs="+", type=int, metavar="FOLD", help="default: all folds of the split"
    )
    _add_backend(parser, "--parallel")
    parser.set_defaults(run=_run_crossval)


def _run_crossval(args: argparse.Namespace) -> int:
    from nnunetv2_s2ca.jobs.folds import Model, find_dataset
    from nnunetv2_s2ca.jobs.scores import region_names, validation_dice
    from nnunetv2_s2ca.jobs.training import cross_validate
    from nnunetv2_s2ca.reporting.tables import fold_table

    dataset = find_dataset(args.d)
    models = [Model(dataset, args.c, trainer, args.p) for trainer in args.tr]
    device = _device(args)
    outcome = cross_validate(models, _backend(args, device), device=device, folds=args.f)
    dices = {model.trainer: validation_dice(model) for model in models}
    print(f"\n{fold_table(dices, region_names(models[0]))}")
    if outcome.queued:
        print("\nThe same command again shows how far the folds are.")
    return int(bool(outcome.failed))


def _add_predict(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("predict", help="nnUNetv2_predict by several jobs")
    parser.add_argument("-i", type=Path, required=True, metavar="FOLDER", help="images")
    parser.add_argument("-o", type=Path, required=True, metavar="FOLDER", help="predictions")
    parser.add_argument("-d", type=_name, required=True, metavar="DATASET", help="number or name")
    parser.add_argument(
        "-c", type=_name, required=True, metavar="CONFIGURATION", help="such as 3d_fullres"
    )
    parser.add_argument("-tr", type=_name, default="nnUNetTrainerS2CA", metavar="TRAINER")
    parser.add_argument("-p", type=_name, default="nnUNetPlans", metavar="PLANS")
    parser.add_argument("-f", nargs="+", default=["0", "1", "2", "3", "4"], metavar="FOLD")
    _add_backend(parser, "--jobs")
    parser.add_argument(
        "more", nargs="*", metavar="-- OPTIONS", help="further options of nnUNetv2_predict"
    )
    parser.set_defaults(run=_run_predict)


def _run_predict(args: argparse.Namespace) -> int:
    from nnunetv2_s2ca.jobs.prediction import predict_in_parts

    device = _device(args)
    backend = _backend(args, device)
    model = ["-d", args.d, "-c", args.c, "-tr", args.tr, "-p", args.p, "-f", *args.f]
    failed = predict_in_parts(
        args.i,
        args.o,
        backend,
        options=[*model, "-device", device, *args.more],
        parts=args.parallel or getattr(backend, "slots", 1),
    )
    return int(bool(failed))


def _add_backend(parser: argparse.ArgumentParser, parallel: str) -> None:
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), help="default: cuda if there")
    parser.add_argument(
        "--backend",
        choices=("local", "slurm", "debug"),
        default="local",
        help="processes on this machine; jobs of a cluster; or one after another in this process",
    )
    parser.add_argument(
        parallel,
        dest="parallel",
        type=_positive,
        metavar="N",
        help="jobs at a time, sharing the cores of this machine (default: one per GPU, or one; on "
        "SLURM as many as it starts)",
    )
    parser.add_argument(
        "--gpus", nargs="+", type=int, metavar="ID", help="local: the GPUs to use (default: all)"
    )
    slurm = parser.add_argument_group("SLURM")
    slurm.add_argument("--slurm-partition", metavar="NAME")
    slurm.add_argument(
        "--time", default="2-00", help="limit of a job, which then goes on in a new one (2-00)"
    )
    slurm.add_argument("--mem", default="48G", help="memory of a job (48G)")
    slurm.add_argument(
        "--cpus", type=_positive, default=12, metavar="N", help="cores of a job (12)"
    )
    slurm.add_argument(
        "--slurm",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further options of sbatch, such as account=NAME qos=NAME",
    )


def _name(text: str) -> str:
    if not text or Path(text).name != text:
        raise argparse.ArgumentTypeError(f"expected a name, found {text!r}")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text!r}")
    return int(text)


def _device(args: argparse.Namespace) -> str:
    if args.device:
        return args.device
    if args.backend == "slurm":
        return "cuda"  # the login node need not have what the nodes have
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _backend(args: argparse.Namespace, device: str) -> LocalBackend | SlurmBackend:
    from nnunetv2_s2ca.jobs.backends import (
        LocalBackend,
        SlurmBackend,
        parse_gigabytes,
        parse_minutes,
        visible_gpus,
    )

    if args.gpus and (args.backend == "slurm" or device != "cuda"):
        raise UserError("--gpus chooses among this machine's CUDA devices; leave it out here")
    if args.backend == "slurm":
        wrong = [option for option in args.slurm if "=" not in option]
        if wrong:
            raise UserError(f"--slurm {wrong[0]}: expected KEY=VALUE")
        return SlurmBackend(
            minutes=parse_minutes(args.time),
            memory_gb=parse_gigabytes(args.mem),
            cores=args.cpus,
            gpus=int(device == "cuda"),
            parallel=args.parallel,
            partition=args.slurm_partition,
            options=dict(option.split("=", 1) for option in args.slurm),
        )
    gpus = visible_gpus(args.gpus)[: args.parallel] if device == "cuda" else ()
    return LocalBackend(gpus=gpus, parallel=args.parallel or 1, debug=args.backend == "debug")


if __name__ == "__main__":
    sys.exit(main())
