"""Compare metrics with limits."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def check_limits(what: str, limits: dict, metrics: dsl.Input[dsl.Artifact]) -> str:
    """Compare metrics with limits; the next tasks run only if the output is empty.

    Args:
        what: Name of the measured model, for messages.
        limits: Bounds "at_least" and "at_most" by the metric's place in metrics.json, such as
            "main" or "quantized.by_language.hindi.main".
        metrics: Folder written by run_teacher or evaluate_models.

    Returns:
        Metrics that miss their limits, with their values; empty if all limits are met.
    """
    from pathlib import Path

    from saarthi_lib import logs
    from saarthi_lib.evaluation.limits import missed
    from saarthi_lib.storage import read_json

    with logs.task():
        reasons = "; ".join(missed(read_json(Path(metrics.path) / "metrics.json"), limits))
        logger = logs.get_logger("gate")
        if reasons:
            logger.warning("%s: %s", what, reasons)
            return f"{what}: {reasons}"
        logger.info("%s: meets all %d limits", what, len(limits))
        return ""
