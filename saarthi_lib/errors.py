"""Errors that a user can fix.

Each message says what is wrong, where (the file, row or field), and what to do. The command line
prints the message without a traceback and exits with code 2.
"""


class SaarthiError(Exception):
    """Base of all errors that the user can fix."""


class ConfigError(SaarthiError):
    """A field of the configuration is unknown, missing, of the wrong type or out of range."""


class DataError(SaarthiError):
    """Input data cannot be used; the message names the file and the row or column."""


class TeacherError(SaarthiError):
    """A teacher cannot be found or read."""


class BundleError(SaarthiError):
    """A bundle lacks a file, was changed after it was written, or has an unknown format."""


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
