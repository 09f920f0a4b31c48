"""Examine the installation, list trainers, and link the trainers of an editable install."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Installation:
    """The findings on this machine.

    Attributes:
        findings: One or more lines each.
        ready: Whether training could start.
    """

    findings: tuple[str, ...]
    ready: bool

    def __str__(self) -> str:
        verdict = "Training can start." if self.ready else "Training could not start."
        return "\n".join([*self.findings, verdict])


def examine_installation() -> Installation:
    """Look at versions, trainers, nnU-Net's folders, device, disk and memory."""
    from nnunetv2_s2ca.doctor import examine

    findings = list(examine())
    return Installation(
        tuple(map(str, findings)), ready=not any(finding.fatal for finding in findings)
    )


def describe_trainers() -> str:
    """The trainers for `nnUNetv2_train -tr`, as a table."""
    from nnunetv2_s2ca.training.catalogue import describe_trainers as table

    return table()


def link_trainers() -> Path:
    """Let nnU-Net find the trainers of an editable install; returns the file that it writes.

    Raises:
        UserError: Site-packages cannot be written to.
    """
    from nnunetv2_s2ca.link import link

    return link()


def unlink_trainers() -> Path:
    """Undo `link_trainers`; returns the removed file.

    Raises:
        UserError: Site-packages cannot be written to.
    """
    from nnunetv2_s2ca.link import unlink

    return unlink()
