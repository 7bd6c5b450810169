"""A data set of a model hub: `hf://datasets/owner/name[@revision][/path]`.

HF_ENDPOINT selects another hub, HF_TOKEN gives access to private data sets.
"""

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from saarthi_lib.data.cloud.objects import DamagedError, StoredObject
from saarthi_lib.errors import DataError
from saarthi_lib.storage import digest_file

_ADDRESS = re.compile(
    r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>refs/(?:convert|pr)/[^/@]+|[^/@]+))?(?:/(?P<path>.*))?"
)
_CHUNK = 1 << 20
_CLIENTS = ("httpx", "httpx2", "requests")  # huggingface_hub uses one of them, by its version


class HubFolder:
    """A data set, or a folder or file of it, in one revision.

    Args:
        address: `hf://datasets/owner/name[@revision][/path]`.

    Raises:
        DataError: the address has another form, or the client's package is not installed.
    """

    def __init__(self, address: str) -> None:
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise DataError(
                f"{address}: is not of the form hf://datasets/owner/name[@revision][/path]; "
                "correct input_path"
            )
        try:
            from huggingface_hub import HfApi
        except ImportError:
            raise DataError(
                "hf:// needs the package huggingface_hub: pip install huggingface_hub"
            ) from None
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        self._repo = found["repo"]
        self._revision = found["revision"]
        self._path = (found["path"] or "").strip("/")

    def objects(self) -> list[StoredObject]:
        """List the files of the present commit; hidden ones are left out."""
        info = self._api.dataset_info(self._repo, revision=self._revision, files_metadata=True)
        files = [each for each in info.siblings or () if not each.rfilename.startswith(".")]
        prefix = f"{self._path}/" if self._path else ""
        inside = [each for each in files if each.rfilename.startswith(prefix)]
        if not inside:
            inside = [each for each in files if each.rfilename == self._path]
            prefix = self._path.removesuffix(self._path.split("/")[-1])
        return [
            StoredObject(
                each.rfilename.removeprefix(prefix),
                each.rfilename,
                -1 if each.size is None else each.size,
                (_digest_of(each), info.sha),
            )
            for each in inside
        ]

    def download(self, stored: StoredObject, target: Path) -> None:
        """Download a file of the listed commit, and verify its digest."""
        digest, commit = stored.state
        cached = self._api.hf_hub_download(
            self._repo, stored.key, repo_type="dataset", revision=str(commit)
        )
        shutil.copyfile(cached, target)
        if digest and digest not in (_git_digest(target), digest_file(target)):
            raise DamagedError(stored.key)

    def advice(self, error: Exception) -> str | None:
        """Describe an error of this storage and its remedy; None for other errors."""
        from huggingface_hub import errors

        match error:
            case errors.GatedRepoError():
                return "access must be granted first; ask for it on its page, and set HF_TOKEN"
            case errors.RepositoryNotFoundError():
                return "the data set does not exist or is private; fix the address, or set HF_TOKEN"
            case errors.RevisionNotFoundError():
                return "the revision does not exist; fix the address"
            case errors.HFValidationError():
                return "the address is not valid; fix it"
            case errors.HfHubHTTPError():
                return "the hub refuses the request; try again, or fix the address"
            case errors.OfflineModeIsEnabled():
                return "HF_HUB_OFFLINE is set; unset it, or give a local copy of the data"
        is_client = type(error).__module__.partition(".")[0] in _CLIENTS
        if is_client or isinstance(error, errors.LocalEntryNotFoundError | ConnectionError):
            return (
                "no hub can be reached; check the network and HF_ENDPOINT, or give a local copy of "
                "the data"
            )
        return None


def _digest_of(file: Any) -> str:
    """SHA-256 of a large file, and else git's digest of a file."""
    return str(file.lfs.sha256 if file.lfs else file.blob_id or "")


def _git_digest(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
