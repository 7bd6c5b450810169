"""`python -m predictors BUNDLE [BUNDLE …]`: serve bundles with KServe."""

import sys

from predictors.server import serve
from predictors.settings import parse
from saarthi_lib.errors import SaarthiError
from saarthi_lib.logs import USER_ERROR


def main() -> None:
    """Parse the arguments and serve until stopped; errors that the user can fix exit with 2."""
    arguments = parse(None, "python -m predictors", __doc__)
    try:
        serve(**arguments)
    except SaarthiError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(USER_ERROR)


if __name__ == "__main__":
    main()
