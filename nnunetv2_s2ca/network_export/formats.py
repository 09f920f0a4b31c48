"""The two formats: how a network is written, and how a program without this package runs it."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from nnunetv2_s2ca.core.errors import UserError

OPSET = 20  # the first with GridSample in 3D
INPUT, OUTPUT = "patch", "logits"
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
# what a program without this package knows
KNOWN_OPERATIONS = ("aten", "prims", "builtins", "_operator", "higher_order")


@dataclass(frozen=True)
class Format:
    """A format of exported networks.

    Attributes:
        name: also the ending of its files.
        write: writes a network, given an example of its input, to a file.
        run: runs a file on a patch, (1, C, *patch_size) → logits (1, K, *patch_size).
        needs: packages to be installed.
        made_with: what reads the file: name → version.
    """

    name: str
    write: Callable[[nn.Module, Tensor, Path], None]
    run: Callable[[Path, Tensor], Tensor]
    needs: tuple[str, ...]
    made_with: Callable[[], dict[str, object]]

    def check_installed(self) -> None:
        """Check that what writes and runs the format is there.

        Raises:
            UserError: a package is missing.
        """
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"the format {self.name} needs {', '.join(missing)}, to write the network and to "
                f"compare its output with ours: pip install {' '.join(missing)} (or install this "
                f"package with its extra, nnunetv2-s2ca[{self.name}])"
            )


def _traced(network: nn.Module, patch: Tensor) -> ExportedProgram:
    with torch.no_grad():
        program = torch.export.export(network, (patch,), strict=False)
    foreign = {
        str(node.target)
        for graph in program.graph_module.modules()  # blocks without autocast are graphs within
        if isinstance(graph, GraphModule)
        for node in graph.graph.nodes
        if node.op == "call_function" and _namespace(node.target) not in KNOWN_OPERATIONS
    }
    if foreign:
        raise UserError(
            f"the network uses operations that other programs do not have: {', '.join(foreign)}; "
            "only networks of PyTorch's own operations can be exported"
        )
    return program


def _namespace(target: object) -> str:
    return str(getattr(target, "namespace", None) or getattr(target, "__module__", ""))


def _write_pt2(network: nn.Module, patch: Tensor, path: Path) -> None:
    torch.export.save(_traced(network, patch), path)


def _run_pt2(path: Path, patch: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.export.load(path).module()(patch)


def _write_onnx(network: nn.Module, patch: Tensor, path: Path) -> None:
    program = _traced(network, patch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter's own parts
        converted = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert converted is not None  # as it would be for another exporter
    converted.save(str(path), external_data=False)


def _run_onnx(path: Path, patch: Tensor) -> Tensor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (logits,) = session.run([OUTPUT], {INPUT: patch.numpy()})
    return torch.from_numpy(np.asarray(logits))


FORMATS = {
    form.name: form
    for form in (
        Format(
            "onnx",
            _write_onnx,
            _run_onnx,
            ONNX_PACKAGES,
            lambda: {"opset": OPSET, "onnxruntime": version("onnxruntime")},
        ),
        Format("pt2", _write_pt2, _run_pt2, (), lambda: {"torch": version("torch")}),
    )
}
