"""The number of bytes that a file may expand to."""

from pathlib import Path

from saarthi_lib.errors import DataError

LEAST = 256 << 20  # bytes; what even a small file may expand to
RATIO = 100  # bytes for each byte of a larger file
OF_VALUE = 32  # bytes of memory that any value takes, even an empty one


class Budget:
    """Bytes that a file may expand to; `spend` counts them.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.limit = max(LEAST, RATIO * path.stat().st_size)
        self._spent = 0

    def spend(self, size: int) -> None:
        """Count bytes that the file expands to.

        Raises:
            DataError: they are more than the limit.
        """
        self._spent += size
        if self._spent > self.limit:
            raise DataError(
                f"{self._path}: {self._path.stat().st_size} bytes expand to more than {self.limit} "
                "bytes; if this is right, split the file, or write it without compression"
            )
