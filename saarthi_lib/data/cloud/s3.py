"""S3 and its kin (MinIO, SeaweedFS, Ceph), through boto3.

Credentials, region, endpoint and certificates come from the environment or the usual files:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, AWS_CA_BUNDLE.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from saarthi_lib.data.cloud.objects import (
    ChangedError,
    DamagedError,
    ExistsError,
    StoredObject,
)
from saarthi_lib.errors import DataError
from saarthi_lib.logs import get_logger

logger = get_logger("data.cloud")

_ATTEMPTS = 6  # of a request, with back-off: about 30 s
_CHUNK = 1 << 20
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')  # ETag of an object that was stored in one part

_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_ADVICE = {
    "NoSuchBucket": "the bucket does not exist; fix the address, or AWS_ENDPOINT_URL",
    "InvalidBucketName": "the bucket's name is not valid; fix the address",
    "AccessDenied": "no permission; the account needs s3:ListBucket and s3:GetObject on the bucket "
    "to read, and s3:PutObject to write",
    "InvalidAccessKeyId": f"the access key is unknown; correct {_KEYS}",
    "SignatureDoesNotMatch": f"the secret key is wrong; correct {_KEYS}",
    "ExpiredToken": "the credentials have expired; renew them",
    "InvalidToken": "the session token is wrong; correct AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "the clock of this machine is wrong; set it",
}
_BUSY = ("500", "502", "503", "504", "InternalError", "ServiceUnavailable", "SlowDown")
_ADVICE |= {
    **dict.fromkeys(_BUSY, "the storage is overloaded or broken; try again later"),
    "403": _ADVICE["AccessDenied"],
    "404": _ADVICE["NoSuchBucket"],
    "AllAccessDisabled": _ADVICE["AccessDenied"],
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region; set AWS_REGION",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
}
_MISSING = ("404", "NoSuchKey")
_CHANGED = (*_MISSING, "412", "PreconditionFailed")
_EXISTS = ("409", "412", "ConditionalRequestConflict", "PreconditionFailed")
_UNSUPPORTED = ("501", "NotImplemented")


class S3Folder:
    """A folder of a bucket on S3 or on a server with its API.

    Args:
        bucket: name of the bucket.
        folder: folder in it, without slashes at its ends.
        seconds: time limit of a single try; None: retry temporary errors with back-off.
    """

    def __init__(self, bucket: str, folder: str, seconds: float | None = None) -> None:
        self._bucket = bucket
        self._folder = folder
        self._client, self._is_anonymous = _client(seconds)
        self._pinned: dict[str, str] = {}  # ETag of each listed object, by key
        self._encrypted: set[str] = set()  # ETags that are not MD5 digests
        self._creates: set[str] = set()  # keys that must not exist yet
        self._is_warned = False
        events = self._client.meta.events
        events.register("provide-client-params.s3.GetObject", self._pin)
        events.register("provide-client-params.s3.PutObject", self._create)
        events.register("provide-client-params.s3.CompleteMultipartUpload", self._create)
        events.register("after-call.s3.GetObject", self._note_encryption)

    def objects(self) -> list[StoredObject]:
        """List the objects with their ETags.

        Raises:
            DataError: the server is not one of S3.
        """
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._key("")
        )
        found = [entry for page in pages for entry in page.get("Contents", ())]
        prefix = self._key("")
        if not found and self._folder and (one := self._head(self._folder)):
            if "ETag" not in one:
                raise DataError(
                    f"s3://{self._bucket}/{self._folder}: the server does not answer as S3 does, "
                    "but perhaps with a web page; correct AWS_ENDPOINT_URL"
                )
            found = [{"Key": self._folder, "Size": one["ContentLength"], "ETag": one["ETag"]}]
            prefix = self._folder.removesuffix(self._folder.split("/")[-1])
        return [
            StoredObject(each["Key"].removeprefix(prefix), each["Key"], each["Size"], (etag,))
            for each in found
            if not each["Key"].endswith("/") and (etag := each["ETag"])
        ]

    def download(self, stored: StoredObject, target: Path, most: int | None = None) -> None:
        """Download the listed state, large objects in parts, and verify its checksum."""
        from botocore.exceptions import ClientError, FlexibleChecksumError
        from s3transfer.exceptions import S3DownloadFailedError

        target.touch()
        if most is not None and stored.size > most:
            raise DamagedError(f"s3://{self._bucket}/{stored.key}")
        if not stored.size:
            return
        etag = self._pinned[stored.key] = str(stored.state[0])
        place = f"s3://{self._bucket}/{stored.key}"
        try:
            with self._transfers(stored.size) as transfers:
                transfers.download(
                    self._bucket, stored.key, str(target), subscribers=[_Listed(stored, place)]
                ).result()
        except ClientError as error:
            if _code(error) in _CHANGED:
                raise ChangedError(place) from None
            raise
        except S3DownloadFailedError:  # its ETag is another one
            raise ChangedError(place) from None
        except FlexibleChecksumError as error:
            raise DamagedError(place) from error
        md5 = _MD5.fullmatch(etag)
        is_md5 = md5 and etag not in self._encrypted and not self._bucket.endswith("--x-s3")
        if target.stat().st_size != stored.size or (md5 and is_md5 and _md5(target) != md5[1]):
            raise DamagedError(place)

    def find(self, name: str) -> StoredObject | None:
        """Find an object without listing the folder; None if it is missing."""
        key = self._key(name)
        # In contrast to a request for the object, a missing bucket is an error.
        page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
        for each in page.get("Contents", ()):
            if each["Key"] == key:
                return StoredObject(name, key, each["Size"], (each["ETag"],))
        return None

    def read(self, name: str, most: int | None = None) -> bytes | None:
        """Return the content of an object, or `most` bytes of it; None if it is missing."""
        from botocore.exceptions import ClientError

        try:
            body = self._client.get_object(Bucket=self._bucket, Key=self._key(name))["Body"]
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise
        content: bytes = body.read(most)
        return content

    def upload(self, path: Path, name: str, *, replace: bool) -> None:
        """Store a file, in parts if it is large.

        The server refuses an existing name, if it knows conditional writes; it is looked up before.
        """
        from botocore.exceptions import ClientError

        key = self._key(name)
        if not replace and self._head(key):
            raise ExistsError(name)
        if not replace:
            self._creates.add(key)
        try:
            self._put(path, key)
        except ClientError as error:
            if _code(error) in _EXISTS:
                raise ExistsError(name) from error
            if _code(error) not in _UNSUPPORTED or replace:
                raise
            if not self._is_warned:
                self._is_warned = True
                logger.warning(
                    "s3://%s: the server has no conditional writes; publish from one process at a "
                    "time",
                    self._bucket,
                )
            self._creates.discard(key)
            self._put(path, key)

    def remove(self, name: str) -> None:
        """Delete an object, if it exists."""
        self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    def holds(self, path: Path, name: str) -> bool:
        """Compare the content of a file with that of an object."""
        key = self._key(name)
        head = self._head(key)
        if head is None or head["ContentLength"] != path.stat().st_size:
            return False
        body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
        with path.open("rb") as file:
            return all(chunk == file.read(len(chunk)) for chunk in body.iter_chunks(_CHUNK))

    def advice(self, error: Exception) -> str | None:
        """Describe an error of this storage and its remedy; None for other errors."""
        from botocore import exceptions

        if isinstance(error, exceptions.ClientError):
            code = _code(error)
            if self._is_anonymous and code in ("403", "AccessDenied"):
                return f"the bucket is not public, and there are no credentials; set {_KEYS}"
            return _ADVICE.get(code, "the storage refuses the request; fix the address")
        match error:
            case exceptions.SSLError():
                return "the certificate is not trusted; set AWS_CA_BUNDLE to a file of trusted ones"
            case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
                return f"no valid credentials; set {_KEYS}"
            case exceptions.ParamValidationError() | exceptions.InvalidS3AddressingStyleError():
                return "the bucket's name is not valid; fix the address"
            case (
                exceptions.HTTPClientError()
                | exceptions.ConnectionError()
                | exceptions.IncompleteReadError()
            ):
                return "the storage cannot be reached; check the network and AWS_ENDPOINT_URL"
            case RecursionError():  # the client follows redirects without end
                return "the server redirects in a circle; correct AWS_ENDPOINT_URL and AWS_REGION"
            case exceptions.BotoCoreError():
                return "the storage client fails; check the AWS settings of the environment"
        if type(error).__name__ == "RetriesExceededError":
            return "the storage cannot be reached; check the network and try again"
        return None

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name

    def _head(self, key: str) -> Any:
        """Size and ETag of an object; None if it is missing."""
        from botocore.exceptions import ClientError

        try:
            return self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise

    def _put(self, path: Path, key: str) -> None:
        with self._transfers(path.stat().st_size) as transfers:
            transfers.upload(str(path), self._bucket, key).result()

    def _transfers(self, size: int) -> Any:
        """Manager of one transfer, with threads for the parts of a large one."""
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        config = TransferConfig()
        config.use_threads = size >= config.multipart_threshold
        return create_transfer_manager(self._client, config)

    def _pin(self, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        etag = self._pinned.get(params["Key"])
        return {"IfMatch": etag, **params} if etag else params

    def _create(self, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"IfNoneMatch": "*", **params} if params["Key"] in self._creates else params

    def _note_encryption(self, parsed: dict[str, Any], **_: Any) -> None:
        encryption = parsed.get("ServerSideEncryption", "AES256")
        if encryption != "AES256" or "SSECustomerAlgorithm" in parsed:
            self._encrypted.add(str(parsed.get("ETag")))


class _Listed:
    """Gives a transfer the listed size and ETag, and ends it when more bytes arrive."""

    def __init__(self, stored: StoredObject, place: str) -> None:
        self._size, self._etag = stored.size, str(stored.state[0])
        self._place = place
        self._received = 0

    def on_queued(self, future: Any, **_: Any) -> None:
        future.meta.provide_transfer_size(self._size)
        future.meta.provide_object_etag(self._etag)

    def on_progress(self, bytes_transferred: int, **_: Any) -> None:
        self._received += bytes_transferred
        if self._received > self._size:
            raise DamagedError(f"{self._place} sends more than the {self._size} bytes of its list")


def _client(seconds: float | None) -> tuple[Any, bool]:
    """Client with the environment's settings, and whether it lacks credentials."""
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise DataError("s3:// needs the package boto3: pip install boto3") from None
    try:
        session = boto3.Session()
        region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
        is_anonymous = session.get_credentials() is None  # public buckets need none
        settings: dict[str, Any] = {
            "connect_timeout": seconds or 10,
            "read_timeout": seconds or 60,
            "retries": {"mode": "standard", "total_max_attempts": 1 if seconds else _ATTEMPTS},
            "max_pool_connections": 32,
        }
        if is_anonymous:
            settings["signature_version"] = UNSIGNED
        client = session.client("s3", region_name=region, config=Config(**settings))
    except (BotoCoreError, ValueError) as error:
        raise DataError(
            f"s3://: the AWS settings of the environment cannot be used; correct them ({error})"
        ) from error
    return client, is_anonymous


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
