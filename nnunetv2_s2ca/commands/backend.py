"""Options for where jobs run, and the backend that they choose."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import nnunetv2_s2ca
from nnunetv2_s2ca.commands.options import positive

if TYPE_CHECKING:
    from nnunetv2_s2ca import LocalBackend, SlurmBackend


def add_backend(parser: argparse.ArgumentParser, parallel: str) -> None:
    """Add the options of the local backend and of SLURM.

    Args:
        parser: The command's parser.
        parallel: The command's option for the number of jobs.
    """
    parser.add_argument(
        "-device", choices=("cuda", "cpu", "mps"), help="default: cuda if available"
    )
    parser.add_argument(
        "--backend",
        choices=("local", "slurm", "debug"),
        default="local",
        help="processes on this machine (default), jobs on a cluster, or one after another here",
    )
    parser.add_argument(
        parallel,
        dest="parallel",
        type=positive,
        metavar="N",
        help="jobs at a time (default: one per GPU, or one; on SLURM as many as it starts)",
    )
    parser.add_argument(
        "--gpus", nargs="+", type=int, metavar="ID", help="local: the GPUs to use (default: all)"
    )
    slurm = parser.add_argument_group("SLURM")
    slurm.add_argument(
        "--slurm-partition", dest="partition", metavar="NAME", help="default: the cluster's"
    )
    slurm.add_argument("--time", default="2-00", help="time limit per job (default: 2-00)")
    slurm.add_argument("--mem", default="48G", help="memory per job (default: 48G)")
    slurm.add_argument(
        "--cpus", type=positive, default=12, metavar="N", help="cores per job (default: 12)"
    )
    slurm.add_argument(
        "--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="further options of sbatch"
    )


def chosen_backend(args: argparse.Namespace) -> LocalBackend | SlurmBackend:
    """The backend that the options choose.

    Raises:
        UserError: They contradict each other.
    """
    if args.backend == "slurm":
        if args.gpus:
            raise nnunetv2_s2ca.UserError(
                "`gpus` chooses among this machine's CUDA devices; leave it out here"
            )
        args.device = args.device or "cuda"  # the login node may lack the nodes' GPUs
        return nnunetv2_s2ca.SlurmBackend.from_texts(
            time=args.time,
            memory=args.mem,
            cores=args.cpus,
            gpus=int(args.device == "cuda"),
            parallel=args.parallel,
            partition=args.partition,
            options=args.slurm,
        )
    return nnunetv2_s2ca.LocalBackend.for_device(
        args.device, gpus=args.gpus, parallel=args.parallel, debug=args.backend == "debug"
    )
