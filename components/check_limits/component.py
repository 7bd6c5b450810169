"""Hold measured figures against limits."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def check_limits(what: str, limits: dict, figures: dsl.Input[dsl.Artifact]) -> str:
    """Hold measured figures against limits; what follows is run when the answer is empty.

    Args:
        what: Whose figures they are, for the answer.
        limits: By the figure's place in metrics.json, such as "main" or
            "quantized.by_language.hindi.main", with "at_least", "at_most" or both.
        figures: Of test_teacher or evaluate_models.

    Returns:
        Which figures missed which limits, in words; empty when none did.
    """
    from pathlib import Path

    from saarthi_lib import logs
    from saarthi_lib.evaluation.limits import missed
    from saarthi_lib.storage import read_json

    with logs.task():
        lines = missed(read_json(Path(figures.path) / "metrics.json"), limits)
        logger = logs.get_logger("gate")
        if not lines:
            logger.info("%s: holds all %d limits", what, len(limits))
            return ""
        logger.warning("%s: %s", what, "; ".join(lines))
        return f"{what}: {'; '.join(lines)}"
