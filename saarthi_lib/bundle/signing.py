"""Signatures of bundles: Ed25519 (RFC 8032) over `bundle.json`, which names every file's digest.

Keys are PEM files and signatures have 64 bytes; OpenSSL makes and checks the same. `cryptography`
is imported only when a signature is made or checked.
"""

import errno
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from saarthi_lib.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIGNATURE_BYTES = 64
_KEY_BYTES = 1 << 20  # read at most
PASSWORD_VARIABLE = "SAARTHI_SIGNING_PASSWORD"

_PRIVATE = "make one with: openssl genpkey -algorithm ed25519 -out key.pem"
_PUBLIC = "make one with: openssl pkey -in key.pem -pubout -out public.pem"


def sign(message: bytes, key: Path) -> bytes:
    """Sign a message; returns 64 bytes.

    Args:
        message: the bytes to sign.
        key: PEM file of an Ed25519 private key. The environment variable
            `SAARTHI_SIGNING_PASSWORD` has the password of an encrypted key.

    Raises:
        ConfigError: the file is not such a key, or the password is wrong.
    """
    return _private_key(key).sign(message)


def check_signature(message: bytes, signature: bytes, keys: Sequence[Path], name: str) -> None:
    """Check that one of the keys has signed a message.

    Args:
        message: the signed bytes.
        signature: 64 bytes.
        keys: PEM files of Ed25519 public keys.
        name: name of the message in the error.

    Raises:
        BundleError: none of the keys has signed the message.
        ConfigError: a file is not a public key.
    """
    from cryptography.exceptions import InvalidSignature

    known = public_keys(keys)
    for key in known:
        try:
            key.verify(signature, message)
            return
        except InvalidSignature:
            continue
    trusted = ", ".join(
        f"{path} ({_fingerprint(key)})" for path, key in zip(keys, known, strict=True)
    )
    raise BundleError(
        f"{name}: no trusted key has made its signature ({trusted}): the bundle was changed after "
        "it was signed, or somebody else has signed it"
    )


def public_keys(paths: Sequence[Path]) -> "list[Ed25519PublicKey]":
    """Read public keys.

    Raises:
        ConfigError: a file is not a public key.
    """
    return [_public_key(path) for path in paths]


def _private_key(path: Path) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    password = os.environ.get(PASSWORD_VARIABLE)
    try:
        key = load_pem_private_key(_read(path), password.encode() if password else None)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: not a private key, or wrong password in {PASSWORD_VARIABLE} ({error}); "
            f"{_PRIVATE}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: not an Ed25519 key; {_PRIVATE}")
    return key


def _public_key(path: Path) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except ValueError as error:
        raise ConfigError(f"{path}: not a public key ({error}); {_PUBLIC}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: not an Ed25519 key; {_PUBLIC}")
    return key


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        with path.open("rb") as file:
            return file.read(_KEY_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read as a key ({error.strerror}); give the path of a PEM file"
        ) from error


def _fingerprint(key: "Ed25519PublicKey") -> str:
    return sha256(key.public_bytes_raw()).hexdigest()[:16]
