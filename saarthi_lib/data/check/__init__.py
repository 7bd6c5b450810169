"""Check labelled data before training; `run` lists the checks."""

from saarthi_lib.data.check.findings import DataCheck, Finding, RowReference
from saarthi_lib.data.check.run import check_data, check_problems

__all__ = ["DataCheck", "Finding", "RowReference", "check_data", "check_problems"]
