"""`python -m predictors BUNDLE [BUNDLE …]`: serve bundles with KServe."""

import argparse

from predictors.server import serve
from predictors.settings import PREFIX, add_arguments
from saarthi_lib.errors import SaarthiError
from saarthi_lib.logs import USER_ERROR


def main() -> None:
    """Parse the arguments and serve until stopped; errors that the user can fix exit with 2."""
    parser = argparse.ArgumentParser(
        prog="python -m predictors",
        description=__doc__,
        epilog=f"Each option is an environment variable too: {PREFIX}HTTP_PORT for --http-port.",
    )
    add_arguments(parser)
    arguments = vars(parser.parse_args())
    try:
        serve(**arguments)
    except SaarthiError as error:
        parser.exit(USER_ERROR, f"error: {error}\n")


if __name__ == "__main__":
    main()
