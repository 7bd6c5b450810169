"""Origin of an artifact: code, versions, and the pipeline's run."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from saarthi_lib import __version__
from saarthi_lib.storage import digest_folder

# Set for each task of a pipeline; on a cluster from the pod's label.
RUN_ID_VARIABLE = "SAARTHI_RUN_ID"
# File for a copy of the run's record, in a pipeline on one machine.
RECORD_VARIABLE = "SAARTHI_RECORD_FILE"
# Commit that an image was built from; images contain no git repository.
REVISION_VARIABLE = "SAARTHI_SOURCE_REVISION"
# Folder, or address in a bucket, for the states of unfinished trainings; by default, a state is
# next to its output. A repeated task of a pipeline has another disk, but finds the same state.
CHECKPOINTS_VARIABLE = "SAARTHI_CHECKPOINTS"
LIBRARIES = ("torch", "lightning", "transformers", "tokenizers", "onnxruntime", "numpy", "pandas")


def made_by() -> dict[str, Any]:
    """Versions of Saarthi, Python and the main libraries."""
    return {"versions": dict(_versions())}


@cache
def _versions() -> dict[str, str]:
    versions = {"saarthi": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions


def origin() -> dict[str, str]:
    """Revision of the code, and ID of the pipeline's run if there is one."""
    run_id = os.environ.get(RUN_ID_VARIABLE)
    return {"source_revision": source_revision(), **({"run_id": run_id} if run_id else {})}


def job_variables() -> list[dict[str, str]]:
    """Environment for the pods of a job that a task starts: the run, and the store of states."""
    names = (RUN_ID_VARIABLE, CHECKPOINTS_VARIABLE)
    return [{"name": name, "value": os.environ.get(name, "")} for name in names]


def source_revision() -> str:
    """Commit of the running code; without git, the digest of its files."""
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
    """Digest of the library's code; a change makes finished steps stale."""
    return digest_folder(Path(__file__).parent, "**/*.py")[:16]
