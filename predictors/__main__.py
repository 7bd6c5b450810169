"""`python -m predictors BUNDLE [BUNDLE …]`: serve bundles with KServe."""

import argparse

from predictors.server import serve
from saarthi_lib.errors import SaarthiError


def main() -> None:
    """Parse the arguments and serve until stopped; exit code 2 for what the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m predictors", description=__doc__)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="folder of a model bundle")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--http-port", type=int, default=8080, help="(%(default)s)")
    parser.add_argument("--grpc-port", type=int, default=8081, help="(%(default)s)")
    parser.add_argument(
        "--threads", type=int, default=1, help="threads a prediction may use (%(default)s)"
    )
    arguments = parser.parse_args()
    try:
        serve(**vars(arguments))
    except SaarthiError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
