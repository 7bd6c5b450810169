"""Errors that a user can fix.

Each message says what is wrong, where (the file, row or field), and what to do. The command line
prints the message without a traceback and exits with code 2. Secrets in addresses are left out.
"""

import re

HIDDEN = "***"  # in place of a secret
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#'\"<>]*@")
_PARAMETER = re.compile(r"(?<=[?&;])([\w.~%-]+)=[^&\s'\"<>#]+")
_SECRET = re.compile(
    r"signature|credential|token|secret|passw|access_?key|api_?key|(^|[-_.])(sig|key|auth|code)$",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """Replace the secrets of all addresses in a text: passwords, signatures and tokens."""
    text = _USER.sub(rf"\1{HIDDEN}@", text)
    return _PARAMETER.sub(
        lambda found: f"{found[1]}={HIDDEN}" if _SECRET.search(found[1]) else found[0], text
    )


_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Escape characters that control a terminal, begin a line or reorder text.

    These are control characters except tabs, line separators, controls of direction, and bytes of
    file names that are not UTF-8.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable_lines(text: str) -> str:
    """`printable` for a message whose own further lines begin with two spaces."""
    return "\n  ".join(map(printable, text.split("\n  ")))


class SaarthiError(Exception):
    """Base of all errors that the user can fix."""

    def __str__(self) -> str:
        return redacted(super().__str__())


class ConfigError(SaarthiError):
    """A field of the configuration is unknown, missing, of the wrong type or out of range."""


class DataError(SaarthiError):
    """Input data cannot be used; the message names the file and the row or column."""


class TeacherError(SaarthiError):
    """A teacher cannot be found or read."""


class BundleError(SaarthiError):
    """A bundle lacks a file, was changed after it was written, or has an unknown format."""


class NetworkError(BundleError):
    """The network of a verified bundle is refused or fails: loading it again fails again."""


class ParityError(SaarthiError):
    """An exported model gives other answers than its source, so it is not published."""


class GateError(SaarthiError):
    """A gate of the pipeline stopped a run; the message names the metric and its limit."""


class InputError(SaarthiError):
    """A text given for prediction cannot be used (wrong type, empty, too long)."""


class StorageError(SaarthiError):
    """A folder cannot be written: the disk is full or read-only, or another run uses it."""


class ArtifactError(SaarthiError):
    """A file of a finished step is missing, cut short or changed."""


class TrainingError(SaarthiError):
    """Training cannot continue: the loss is NaN, or memory or the device is lost."""
