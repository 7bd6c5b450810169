"""Errors that a user can mend.

Every one of them says what is wrong, where (the file, row or field) and what to do about it. The
command line prints the message without a traceback and leaves with exit code 2.
"""


class SaarthiError(Exception):
    """Base of all errors that the user can mend."""


class ConfigError(SaarthiError):
    """A field of the configuration is unknown, missing, of the wrong type or out of range."""


class DataError(SaarthiError):
    """Input data cannot be used; the message names the file and the row or column."""


class TeacherError(SaarthiError):
    """A teacher cannot be found or read."""


class BundleError(SaarthiError):
    """A model bundle lacks a file, was changed after it was written, or is of another format."""


class ParityError(SaarthiError):
    """An exported model does not answer as its source does, so it is not published."""


class GateError(SaarthiError):
    """A gate of the pipeline stopped a run; the message says which figure missed which limit."""


class InputError(SaarthiError):
    """A text given for prediction cannot be used (wrong type, empty, too long)."""


class StorageError(SaarthiError):
    """A folder cannot be written to: the disk is full or read-only, or another run is at work."""


class ArtifactError(SaarthiError):
    """A file that a step has written is missing, cut short or changed."""


class TrainingError(SaarthiError):
    """A training cannot go on: its loss is no number, its memory or its device is gone."""
