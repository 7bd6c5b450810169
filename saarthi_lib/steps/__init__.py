"""The steps: each function takes a configuration and paths, and writes one folder.

labelled text → preprocess → train_teacher → test_teacher → teacher_signals → distil (stage 1 … 5)
→ export → quantize → evaluate → publish

Each file is named after the output of its steps; `network` and `record` are shared by the steps.
The library (`train`), the Kubeflow components and the pipelines call only these. Steps import heavy
libraries themselves, so a step that only reads tables does not wait for Lightning.
"""

from saarthi_lib.steps.bundle import publish
from saarthi_lib.steps.data import check_data, preprocess
from saarthi_lib.steps.evaluation import Models, confusion_matrix, evaluate, evaluate_bundle
from saarthi_lib.steps.explanation import explain, explain_network, explainer
from saarthi_lib.steps.exported import check_risk_target, export, quantize
from saarthi_lib.steps.network import TrainedNetwork, network_predictor, predictor_of
from saarthi_lib.steps.record import log_recipe, resolved
from saarthi_lib.steps.signals import teacher_signals
from saarthi_lib.steps.start import log_saved
from saarthi_lib.steps.student import distil
from saarthi_lib.steps.teacher import test_teacher, train_teacher

# Pipeline order, which is also the order of the reference.
__all__ = [  # noqa: RUF022
    "preprocess",
    "check_data",
    "check_risk_target",
    "train_teacher",
    "test_teacher",
    "teacher_signals",
    "distil",
    "export",
    "quantize",
    "Models",
    "evaluate",
    "explain",
    "publish",
    "evaluate_bundle",
    "confusion_matrix",
    "explain_network",
    "explainer",
    "TrainedNetwork",
    "network_predictor",
    "predictor_of",
    "resolved",
    "log_recipe",
    "log_saved",
]
