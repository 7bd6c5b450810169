"""Compare a canary with the stable predictor."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def check_canary(
    predictor: str, namespace: str, watch_seconds: int, limits: dict, prometheus: str
) -> str:
    """Compare a canary with the stable predictor for a while; take it back when it is worse.

    Args:
        predictor: The InferenceService.
        namespace: Where it is.
        watch_seconds: How long to compare.
        limits: How much worse it may be: "errors" and "abstentions" on top of the stable one's
            rates, "latency" times its p95; and "requests" that each must have had.
        prometheus: Its URL; empty: the pods' own metrics.

    Returns:
        Which limits it missed, in words; empty when it holds them all.
    """
    from deployment.unattended import judge_canary
    from saarthi_lib import logs

    with logs.task():
        show = logs.get_logger("rollout").info
        return judge_canary(predictor, namespace, watch_seconds, limits, prometheus, show)
