"""Compare a canary with the stable predictor."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def check_canary(
    predictor: str, namespace: str, watch_seconds: int, limits: dict, prometheus: str
) -> str:
    """Compare a canary with the stable predictor, and roll it back if it is worse.

    Without a canary, as after a rolling update, it compares nothing.

    Args:
        predictor: Name of the InferenceService or Deployment.
        namespace: Namespace of the predictor.
        watch_seconds: Duration of the comparison.
        limits: How much worse the canary may be: "errors" and "abstentions" are added to the stable
            predictor's rates, "latency" is a factor of its p95. "requests" is the minimum number of
            requests to each of the two.
        prometheus: URL of Prometheus; empty: read the pods' metrics.

    Returns:
        Limits that the canary misses, with their values; empty if it meets all limits.
    """
    from deployment.cluster import Cluster
    from deployment.rollout import judge, limits_from
    from deployment.state import read_predictor
    from saarthi_lib import logs

    with logs.task():
        show = logs.get_logger("rollout").info
        bounds = limits_from(limits)
        cluster = Cluster(namespace=namespace)
        now = read_predictor(cluster, predictor, namespace)
        return judge(cluster, now, watch_seconds, bounds, prometheus, show)
