"""Read the authors' files without running code in them."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import MAGIC_NUMBER

from nnunetv2_s2ca.checkpoints.archive import ZIP_MAGIC, check_archive, damaged_file
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.text import excerpt

LATEST_EPOCH = 10**9
WEIGHTS = "net"  # the key of the state dict in the authors' files
PARALLEL = "module."
# how PyTorch's files begin: with a zip header, or a number pickled by some protocol
TORCH_MAGIC = (ZIP_MAGIC, *(pickle.dumps(MAGIC_NUMBER, protocol=n) for n in range(2, 6)))


@dataclass(frozen=True)
class AuthorsCheckpoint:
    """A file of the authors: weights under the authors' names, and metadata."""

    path: Path
    weights: dict[str, Tensor]
    parallel: bool  # saved from DataParallel; its prefix is removed from the names
    keys: tuple[str, ...]  # of the dict around the weights; empty for a bare state dict
    epoch: int | None


def read_checkpoint(path: Path, *, trust: bool = False) -> AuthorsCheckpoint:
    """Read one of the authors' files: a dict with `net`, or a bare state dict.

    Args:
        path: The file.
        trust: Also read files that hold more than weights, which can run code.

    Raises:
        UserError: The file cannot be read, needs trust, or holds no state dict.
    """
    content = _load(path, trust=trust)
    wrapped = isinstance(content, Mapping) and WEIGHTS in content
    weights = content[WEIGHTS] if wrapped else content
    if not _is_state_dict(weights):
        raise UserError(
            f"{path} holds {_describe(content)}, but a checkpoint of S2CA-Net's authors is a dict "
            f"with the state dict under `{WEIGHTS}`, or a bare state dict"
        )
    prefix = ""
    # may be wrapped more than once
    while all(name.startswith(prefix + PARALLEL) for name in weights):
        prefix += PARALLEL
    epoch = content.get("epoch") if wrapped else None
    return AuthorsCheckpoint(
        path=path,
        weights={name.removeprefix(prefix): weights[name] for name in weights},
        parallel=bool(prefix),
        keys=tuple(map(_key, content)) if wrapped else (),
        epoch=epoch if isinstance(epoch, int) and 0 <= epoch < LATEST_EPOCH else None,
    )


def _load(path: Path, *, trust: bool) -> Any:
    check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle versions
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise _too_large(path) from error
    except Exception as error:  # a damaged file can make the reader raise anything
        if not _has_torch_format(path):
            raise _damaged(path, error) from error
        if not trust:
            raise _refused(path, error) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{path} needs code that is not installed here ({excerpt(str(error))}); install it, or "
            "add its folder to PYTHONPATH"
        ) from error
    except MemoryError as error:
        raise _too_large(path) from error
    except Exception as error:  # as above
        raise _damaged(path, error) from error


def _has_torch_format(path: Path) -> bool:
    """Whether PyTorch wrote the file; `torch.load` would also run any other pickle."""
    with path.open("rb") as file:
        beginning = file.read(max(map(len, TORCH_MAGIC)))
    return beginning.startswith(TORCH_MAGIC)


def _refused(path: Path, error: Exception) -> UserError:
    # a class or function, or an instruction of a pickle protocol that PyTorch does not use
    needs = re.search(
        r"(?:GLOBAL|Unsupported class) ([\w.]+)|(Unsupported operand \d+)", str(error)
    )
    if needs is None:
        return _damaged(path, error)
    return UserError(
        f"{path} holds more than weights ({excerpt(needs[1] or needs[2])}): reading it can run "
        f"any code that its author put in. If you trust its author, pass `trust=True`"
    )


def _damaged(path: Path, error: Exception) -> UserError:
    # without PyTorch's long advice to turn off the safe mode
    reason = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
    reason = re.split(r"\n|\. ", reason.strip())[0] or "it ends too early"
    return damaged_file(path, f"{type(error).__name__}: {reason}")


def _too_large(path: Path) -> UserError:
    return UserError(
        f"{path} needs more memory than there is; close other programs, or use a larger machine"
    )


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"an object of type {type(content).__name__}"
    keys = [_key(key) for key in islice(content, 5)]
    more = ", …" if len(content) > len(keys) else ""
    return f"a dict with the keys {', '.join(keys)}{more}" if keys else "an empty dict"


def _key(key: Any) -> str:
    # the text of other types can be endless, as of a tuple that holds itself
    return excerpt(key) if isinstance(key, str) else f"a {type(key).__name__}"
