"""The page of a cross-validation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import saarthi_lib
from saarthi_lib.evaluation.summary import TASKS
from saarthi_lib.reports.page import write_page

FIXES_SHOWN, ROWS_SHOWN = 20, 50


def write_crossval(path: Path, results: Mapping[str, Any]) -> None:
    """Write the results of a cross-validation as one self-contained HTML page, atomically."""
    write_page(
        path,
        "crossval.html.j2",
        version=saarthi_lib.__version__,
        task_name=TASKS[results["task"]],
        fixes_shown=FIXES_SHOWN,
        rows_shown=ROWS_SHOWN,
        **results,
    )
