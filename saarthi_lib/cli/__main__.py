"""`python -m saarthi_lib.cli`."""

from saarthi_lib.cli import main

main()
