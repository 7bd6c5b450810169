"""Run a bundle on a table of texts, in parts, or evaluate it on a labelled file."""

from saarthi_lib.evaluation.tabular.evaluate import evaluate_file
from saarthi_lib.evaluation.tabular.predict import Answered, predict_file

__all__ = ["Answered", "evaluate_file", "predict_file"]
