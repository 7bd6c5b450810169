"""Make the canary the stable predictor."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def promote_canary(predictor: str, namespace: str, bundle_uri: str, ready_seconds: int) -> None:
    """Make the canary the stable predictor, with all traffic.

    Without a canary, as after a rolling update, it waits until the bundle's pods are ready.

    Args:
        predictor: Name of the InferenceService or Deployment.
        namespace: Namespace of the predictor.
        bundle_uri: Bundle to promote.
        ready_seconds: Longest wait until the predictor is ready.
    """
    from deployment.cluster import Cluster
    from deployment.rollout import promote
    from deployment.state import read_predictor
    from saarthi_lib import logs

    with logs.task():
        show = logs.get_logger("rollout").info
        cluster = Cluster(namespace=namespace)
        now = read_predictor(cluster, predictor, namespace)
        promote(cluster, now, bundle_uri, ready_seconds, show)
