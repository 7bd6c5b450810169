"""Prepare the input data for all later steps, and open the folder that holds the result."""

from saarthi_lib.data.preprocess.prepare import CHECK, CHECK_PAGE, prepare, require_sound, stopping
from saarthi_lib.data.preprocess.prepared import Prepared, Summary
from saarthi_lib.data.preprocess.start import Start
from saarthi_lib.data.preprocess.transfer import GIVEN, TRIAL_ROWS

__all__ = [
    "CHECK",
    "CHECK_PAGE",
    "GIVEN",
    "TRIAL_ROWS",
    "Prepared",
    "Start",
    "Summary",
    "prepare",
    "require_sound",
    "stopping",
]
