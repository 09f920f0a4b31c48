"""The files of one patient's result: their names, and writing them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_output_folder, whole_file
from nnunetv2_s2ca.core.folders import check_apart
from nnunetv2_s2ca.core.nifti import FILE_ENDINGS
from nnunetv2_s2ca.core.nifti_writing import write_compressed


@dataclass(frozen=True)
class Outputs:
    """Where one patient's results go.

    Attributes:
        segmentation: A .nii.gz or .nii file.
        report: A JSON file, or None.
        preview: A PNG file, or None.
    """

    segmentation: Path
    report: Path | None = None
    preview: Path | None = None

    def map_named(self, name: str) -> Path:
        """The file of a further map: `seg_probability_WT.nii.gz` beside `seg.nii.gz`."""
        stem, ending = self._parts()
        return self.segmentation.with_name(f"{stem}_{name}{ending}")

    def check(self, inputs: Iterable[Path], maps: Iterable[str], *, overwrite: bool) -> None:
        """Refuse outputs that cannot be written, before any work is done.

        Raises:
            UserError: A name has another ending, two are the same, one is an input or lies in one,
                exists without `overwrite`, or cannot be written.
        """
        self._parts()
        for path, ending in ((self.report, ".json"), (self.preview, ".png")):
            if path is not None and path.suffix.lower() != ending:
                raise UserError(f"{path}: expected a name that ends in {ending}")
        named = [path for path in (self.segmentation, self.report, self.preview) if path]
        inputs = list(inputs)
        for path in [*named, *(self.map_named(name) for name in maps)]:
            if path.is_dir():
                raise UserError(f"{path} is a folder; expected the name of a file")
            if path.exists() and not overwrite:
                raise UserError(
                    f"{path} exists; pass `overwrite=True` to replace it, or name another file"
                )
            check_apart(path, *inputs)
        for folder in {path.parent for path in named}:
            check_output_folder(folder)

    def _parts(self) -> tuple[str, str]:
        name = self.segmentation.name
        for ending in FILE_ENDINGS:
            if name.endswith(ending) and name != ending:
                return name.removesuffix(ending), ending
        raise UserError(
            f"{self.segmentation}: expected a name that ends in .nii.gz or .nii (`output`)"
        )


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files so that none appears under its name before all are written.

    Args:
        files: Name → content; that of a .nii or .nii.gz file is compressed NIfTI.

    Raises:
        UserError: One cannot be written; then none is.
    """
    with ExitStack() as stack:
        for path, content in files.items():
            temporary = stack.enter_context(whole_file(path))
            if path.name.endswith(FILE_ENDINGS):
                write_compressed(content, temporary)
            else:
                temporary.write_bytes(content)
