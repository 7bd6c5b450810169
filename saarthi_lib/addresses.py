"""Paths and addresses: `data/bot`, `s3://bucket/folder`, `https://host/file`, `file:///folder`.

`pathlib.Path` turns `s3://bucket` into the local folder `s3:`, so addresses are recognized before a
text becomes a path. Secrets of an address are kept in this process and never written.
"""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from saarthi_lib.errors import HIDDEN, ConfigError, redacted

BUCKETS = ("s3", "gs")  # schemes of storage that can be read and written
REMOTE = (*BUCKETS, "https", "hf")  # of data that are fetched
SERVED = (*REMOTE, "http", "hdfs", "webhdfs", "modelscope")  # of bundles that a service fetches
_IMAGES = ("oci", "oci+fetch", "oci+modelcar", "oci+native")
DEPLOYED = (*SERVED, "pvc", *_IMAGES, "model-registry")  # of bundles that KServe gives to a service

# Other schemes. With one slash (s3:/bucket) only listed ones are schemes, because a folder may have
# such a name.
_OTHERS = (
    *("abfs", "abfss", "adl", "az", "azure", "b2", "dbfs", "ftp", "ftps", "gcs", "git", "minio"),
    *("oss", "r2", "s3a", "s3n", "sftp", "ssh", "swift", "wasb", "wasbs", "webdav"),
)
_MEANT = {"gcs": "gs", "http": "https", "huggingface": "hf", "minio": "s3", "r2": "s3"}
_WRITTEN = ("destination", "output", "html", "report")  # arguments that name what is written
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)")
_secrets: dict[str, str] = {}  # whole address by the address without its secrets


def scheme_of(text: str | os.PathLike[str]) -> str:
    """Scheme of an address in lower case; empty for a path."""
    found = _SCHEME.match(os.fspath(text))
    if found is None:
        return ""
    scheme = found[1].lower()
    is_known = scheme in (*DEPLOYED, "file", *_OTHERS)
    return scheme if len(found[2]) > 1 or is_known else ""


def checked_address(text: str, what: str, schemes: Sequence[str]) -> str:
    """Check the scheme of a text that may be an address; return a path or a usual spelling.

    `file://` addresses become paths.

    Args:
        text: path or address.
        what: name of the setting or argument in errors; empty if the caller adds it.
        schemes: accepted schemes besides `file`.

    Raises:
        ConfigError: the scheme is unknown or not accepted here (the message lists the known ones),
            or no file can have this path.
    """
    scheme = scheme_of(text)
    if not scheme:
        names = text.encode("utf-8", "replace").split(b"/")
        if "\0" in text or max(map(len, names)) > 255 or len(text) > 4000:  # limits of Linux
            raise ConfigError(
                f"{_named(text[:100], what)}…: a name in this path is too long, or has a zero "
                "byte; give a shorter path"
            )
        return text
    rest = text[len(scheme) + 1 :]
    if scheme == "file":
        path = rest.removeprefix("//localhost" if rest.startswith("//localhost/") else "//")
        if path.strip("/"):
            return path if os.path.exists(path) else unquote(path)
    elif scheme not in schemes:
        raise _refused(text, scheme, what, schemes)
    elif re.match("//[^/]" if scheme in REMOTE else "//+[^/]", rest):
        if scheme in BUCKETS and "@" in rest.split("/")[2]:
            raise ConfigError(
                f"{_named(text, what)}: an address of a bucket has no key in it; give the "
                "credentials in the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return f"{scheme}:{rest}"
    raise ConfigError(f"{_named(text, what)}: is not of the form {scheme}://…/…; correct it")


def storage_uri(address: str) -> str:
    """Return the address of a bundle for KServe's `storageUri`.

    KServe fetches every object on s3:// whose name begins with the address: `…/1` would also fetch
    `…/10`, whose files the predictor refuses.
    """
    return f"{address.rstrip('/')}/" if scheme_of(address) == "s3" else address


def local_path(text: str | os.PathLike[str], what: str) -> Path:
    """Return the local path that a text names; `file://` addresses are local.

    Raises:
        ConfigError: the text has another scheme.
    """
    return Path(checked_address(os.fspath(text), what, ()))


def is_utf8(path: str | Path) -> bool:
    """Whether a path is UTF-8. Python holds other bytes as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in str(path))


def absent(path: Path) -> str:
    """Why a path is not a file that can be read, for messages; it is neither file nor folder."""
    if path.exists():
        return "is a pipe or device, which can be read only once; write its content to a file first"
    return "there is no such file; correct the path"


def input_address(text: str) -> str:
    """Check an `input_path`, and keep the secrets of an address out of it.

    Returns:
        A path, or the address with `***` in place of its secrets; `revealed` gives them back.

    Raises:
        ConfigError: the scheme is unknown.
    """
    address = checked_address(text, "", REMOTE)
    if scheme_of(address) != "https":
        return address
    shown = redacted(address)
    if shown != address:
        _secrets[shown] = address
    return shown


def revealed(address: str) -> str:
    """The whole address behind one of `input_address`.

    Raises:
        ConfigError: the address comes from a file, where its secrets were left out.
    """
    if HIDDEN in address and address not in _secrets:
        raise ConfigError(
            f"input_path: {address} was written without its secret ({HIDDEN}); give the whole "
            "address again: --set input_path=…"
        )
    return _secrets.get(address, address)


def _refused(text: str, scheme: str, what: str, schemes: Sequence[str]) -> ConfigError:
    known = ", ".join(("a path", *(f"{each}://" for each in (*schemes, "file"))))
    near = _MEANT.get(scheme) or "".join(difflib.get_close_matches(scheme, schemes, n=1))
    hint = f" (did you mean {near}://?)" if near in schemes else ""
    wrong = "cannot be used here" if scheme in DEPLOYED else "is unknown"
    remedy = "download it, and give its path"
    if what in _WRITTEN:
        remedy = "give a local path, and copy what is written there"
    remedy = "" if schemes else f"; {remedy}"
    return ConfigError(
        f"{_named(text, what)}: the scheme {scheme}:// {wrong}{hint}{remedy}; known here: {known}"
    )


def _named(text: str, what: str) -> str:
    return f"{what}: {text}" if what else text
