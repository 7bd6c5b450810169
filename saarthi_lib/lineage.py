"""Where an artifact comes from: the code, the versions and the pipeline's run that made it."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from saarthi_lib import __version__
from saarthi_lib.storage import digest_folder

# Set for each task of a pipeline; on a cluster from the pod's label.
RUN_ID_VARIABLE = "SAARTHI_RUN_ID"
# Where a pipeline on one machine wants a copy of the run's record.
RECORD_VARIABLE = "SAARTHI_RECORD_FILE"
# The commit that an image was built from, where there is no git.
REVISION_VARIABLE = "SAARTHI_SOURCE_REVISION"
# Where a training keeps its state after each epoch, if not beside what it makes: a task that is
# repeated writes elsewhere than the one before it.
STATES_VARIABLE = "SAARTHI_STATES"
LIBRARIES = ("torch", "lightning", "transformers", "tokenizers", "onnxruntime", "numpy", "pandas")


def made_by() -> dict[str, Any]:
    """What made an artifact: versions of Saarthi, Python and the libraries that matter."""
    versions = {"saarthi": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return {"versions": versions}


def origin() -> dict[str, str]:
    """The code's revision, and the pipeline's run where this is a task of one."""
    run_id = os.environ.get(RUN_ID_VARIABLE)
    return {"source_revision": source_revision(), **({"run_id": run_id} if run_id else {})}


def source_revision() -> str:
    """The commit of the code that runs, or of its files the digest where there is no git."""
    if revision := os.environ.get(REVISION_VARIABLE):
        return revision
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return found.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"sha256:{source_digest()}"


def source_digest() -> str:
    """Digest of the library's code: a step's result is only reused for the code that made it."""
    return digest_folder(Path(__file__).parent, "**/*.py")[:16]
