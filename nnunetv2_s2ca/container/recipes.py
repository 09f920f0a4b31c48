"""The texts of a container's folder: Dockerfile, Apptainer definition, pinned requirements."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

PACKAGE = "nnunetv2-s2ca"
HOME = "/opt/s2ca"

_ENVIRONMENT = {
    "PYTHONPATH": f"{HOME}/package",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "nnUNet_compile": "false",
}
_INSTALL = (
    f"pip install --no-cache-dir -r {HOME}/requirements.txt",
    f"cp {HOME}/package/nnunetv2_s2ca/nnunetv2-s2ca.pth "
    "\"$(python -c 'import site; print(site.getsitepackages()[0])')\"",
    f"chmod -R a+rX {HOME}",
)


def dockerfile() -> str:
    """Runs as a user without rights; the orchestrator names another one."""
    environment = " \\\n    ".join(f"{key}={value}" for key, value in _ENVIRONMENT.items())
    return f"""\
FROM {_base()}
ENV {environment}
COPY . {HOME}
RUN {f" {chr(92)}{chr(10)}    && ".join(_INSTALL)}
USER 65534:65534
WORKDIR /tmp
ENTRYPOINT ["python", "{HOME}/entrypoint.py"]
"""


def apptainer_definition() -> str:
    """The same for Apptainer, formerly Singularity; built in the container's folder."""
    newline = "\n    "
    return f"""\
Bootstrap: docker
From: {_base()}

%files
    . {HOME}

%environment
    {newline.join(f"export {key}={value}" for key, value in _ENVIRONMENT.items())}

%post
    {newline.join(_INSTALL)}

%runscript
    exec python {HOME}/entrypoint.py "$@"
"""


def requirements() -> str:
    """What the package needs, in the versions of this environment, without its extras."""
    pinned = {}
    for line in requires(PACKAGE) or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            # without a local part such as +cpu, which the package index does not have
            pinned[requirement.name] = version(requirement.name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return "".join(f"{name}=={pinned[name]}\n" for name in sorted(pinned, key=str.lower))


def _base() -> str:
    return f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
