"""The steps, each one function: paths and a configuration in, one folder out.

labelled text → preprocess → train_teacher → test_teacher → teacher_signals → distil (stage 1 … 5)
→ export → quantise → evaluate → publish

The library (`train`), the Kubeflow components and the pipeline call these and nothing else. Heavy
libraries are imported inside a step: one that only reads tables should not wait for Lightning.
"""

from saarthi_lib.steps.bundle import publish
from saarthi_lib.steps.data import check_data, preprocess
from saarthi_lib.steps.evaluation import (
    PREDICTIONS,
    confusion_matrix,
    evaluate,
    evaluate_bundle,
)
from saarthi_lib.steps.explanation import explain, explain_network, explainer
from saarthi_lib.steps.exported import export, quantise
from saarthi_lib.steps.network import network_predictor, predictor_of
from saarthi_lib.steps.signals import teacher_signals
from saarthi_lib.steps.student import distil
from saarthi_lib.steps.teacher import test_teacher, train_teacher

__all__ = [
    "PREDICTIONS",
    "check_data",
    "confusion_matrix",
    "distil",
    "evaluate",
    "evaluate_bundle",
    "explain",
    "explain_network",
    "explainer",
    "export",
    "network_predictor",
    "predictor_of",
    "preprocess",
    "publish",
    "quantise",
    "teacher_signals",
    "test_teacher",
    "train_teacher",
]
