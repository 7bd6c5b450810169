"""One file on an HTTPS server; REQUESTS_CA_BUNDLE and HTTPS_PROXY are honoured."""

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from saarthi_lib.data.cloud.objects import ChangedError, DamagedError, StoredObject
from saarthi_lib.errors import DataError, redacted
from saarthi_lib.storage import digest_file

_LIMIT = 2_000_000_000  # bytes
_TIMEOUT = (10, 60)  # seconds to connect, and for each read
_RETRIES = 5  # of a request, with back-off; and of a download that breaks off
_PAUSE = 0.5  # seconds before such a download is repeated
_CHUNK = 1 << 20
_TEMPORARY = (408, 429, 500, 502, 503, 504)
_TYPES = {
    "application/jsonl": ".jsonl",
    "application/x-jsonlines": ".jsonl",
    "application/x-ndjson": ".jsonl",
    "application/json": ".json",
    "application/vnd.apache.parquet": ".parquet",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/yaml": ".yml",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "text/yaml": ".yml",
}
_EXTENSIONS = {*_TYPES.values(), ".bio", ".conll", ".conllu", ".iob", ".md", ".txt", ".yaml"}
_PAGE = re.compile(rb"\s*<(!doctype html|html)\b", re.IGNORECASE)


class WebFile:
    """A file at an `https://` address.

    Args:
        address: the whole address, with its secrets.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._shown = redacted(address)
        self._session = _session()

    def objects(self) -> list[StoredObject]:
        """List the file, with its ETag or date, and else the digest of its content."""
        with self._answer() as answer:
            name = self._name(answer)
            length = answer.headers.get("Content-Length", "")
            # With an encoding, the length is that of the encoded content.
            is_size = length.isdecimal() and "Content-Encoding" not in answer.headers
            size = int(length) if is_size else -1
            self._check_size(size)
            state = _state(answer) or self._digest(answer)
            return [StoredObject(name, self._shown, size, state)]

    def download(self, stored: StoredObject, target: Path) -> None:
        """Download the file; one that breaks off is downloaded again."""
        from requests import RequestException  # type: ignore[import-untyped]

        for left in reversed(range(_RETRIES)):
            try:
                with self._answer() as answer:
                    state = _state(answer)
                    if not state or state == stored.state:
                        self._write(answer, target)
                break
            except RequestException:
                if not left:
                    raise
                time.sleep(_PAUSE)
        if (state or (digest_file(target),)) != stored.state:
            raise ChangedError(self._shown)
        if stored.size >= 0 and target.stat().st_size != stored.size:
            raise DamagedError(self._shown)

    def advice(self, error: Exception) -> str | None:
        """Describe an error of this storage and its remedy; None for other errors."""
        from requests import exceptions

        match error:
            case exceptions.SSLError():
                return (
                    "the certificate is not trusted; set REQUESTS_CA_BUNDLE to a file of trusted "
                    "ones"
                )
            case exceptions.TooManyRedirects():
                return "the server redirects in a circle; fix the address"
            case exceptions.ContentDecodingError():
                return "the content does not have the encoding that the server names; try again"
            case exceptions.InvalidURL() | exceptions.InvalidSchema():
                return "the address is not valid; correct input_path"
            case exceptions.RequestException():
                return "the server cannot be reached; check the network and try again"
        return None

    @contextmanager
    def _answer(self) -> Iterator[Any]:
        """Request the file; the content is not read yet."""
        with self._session.get(self._address, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code in (401, 403):
                raise DataError(
                    f"{self._shown}: the server refuses access ({answer.status_code}); give an "
                    "address with a valid signature, or a password in ~/.netrc"
                )
            if answer.status_code != 200:
                is_temporary = answer.status_code in _TEMPORARY
                raise DataError(
                    f"{self._shown}: the server answers {answer.status_code} {answer.reason}; "
                    f"{'try again later' if is_temporary else 'correct input_path'}"
                )
            self._check_page(answer.headers.get("Content-Type", "").startswith("text/html"))
            yield answer

    def _name(self, answer: Any) -> str:
        """Name of the file, with an extension that shows its format.

        Raises:
            DataError: neither the address nor the server shows the format.
        """
        disposition = Message()
        disposition["Content-Disposition"] = answer.headers.get("Content-Disposition", "")
        names = [disposition.get_filename("")]
        for address in (self._address, answer.url):
            names.append(unquote(urlsplit(address).path))
        found = [PurePosixPath(name.replace("\\", "/")).name for name in names]
        named = [name for name in found if PurePosixPath(name).suffix]
        known = [name for name in named if PurePosixPath(name).suffix.lower() in _EXTENSIONS]
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if not known and kind in _TYPES:
            return f"{next(filter(None, found), 'train')}{_TYPES[kind]}"
        if named:
            return [*known, *named][0]
        raise DataError(
            f"{self._shown}: neither its name nor its content type ({kind or 'none'}) shows the "
            "format; give the address of a file with an extension, such as train.csv"
        )

    def _digest(self, answer: Any) -> tuple[str]:
        digest, read = hashlib.sha256(), 0
        for chunk in answer.iter_content(_CHUNK):
            digest.update(chunk)
            read += len(chunk)
            self._check_size(read)
        return (digest.hexdigest(),)

    def _write(self, answer: Any, target: Path) -> None:
        written = 0
        with target.open("wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                self._check_page(not written and bool(_PAGE.match(chunk)))
                written += file.write(chunk)
                self._check_size(written)

    def _check_page(self, is_page: bool) -> None:
        if is_page:
            raise DataError(
                f"{self._shown}: is a web page, not a file of data; give the address of the file "
                "itself (such as that of 'raw' or 'download')"
            )

    def _check_size(self, size: int) -> None:
        if size > _LIMIT:
            raise DataError(
                f"{self._shown}: is larger than {_LIMIT / 1e9:g} GB, the limit for a file from "
                "the web; download it and give the local path, or put it into a bucket"
            )


def _session() -> Any:
    """Session that repeats requests after temporary errors, and is redirected only to https."""
    try:
        from requests import Session
        from requests.adapters import HTTPAdapter  # type: ignore[import-untyped]
        from urllib3.util import Retry
    except ImportError:
        raise DataError("https:// needs the package requests: pip install requests") from None

    class HttpsSession(Session):
        def get_redirect_target(self, resp: Any) -> str | None:
            target: str | None = super().get_redirect_target(resp)
            if target and urlsplit(target).scheme.lower() not in ("", "https"):
                raise DataError(
                    f"{redacted(resp.url)}: redirects to {redacted(target)}, which is not "
                    "encrypted; give an address that stays on https"
                )
            return target

    session = HttpsSession()
    retries = Retry(
        total=_RETRIES,
        other=0,  # a certificate that is not trusted
        backoff_factor=0.5,
        status_forcelist=_TEMPORARY,
        raise_on_status=False,
        respect_retry_after_header=False,  # it may be hours
    )
    session.mount("https://", HTTPAdapter(max_retries=retries))
    return session


def _state(answer: Any) -> tuple[str | None, ...]:
    """Values that change with the content of an answer; empty if the server sends none."""
    etag = answer.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return (etag,)
    if date := answer.headers.get("Last-Modified"):
        return (etag, date, answer.headers.get("Content-Length"))
    return ()
