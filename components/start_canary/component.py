"""Roll a published bundle out: as a canary, or pod by pod."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def start_canary(
    predictor: str, namespace: str, bundle_uri: str, percent: int, ready_seconds: int
) -> None:
    """Roll a published bundle out, and wait until it is ready.

    With Knative, a canary gets a part of the traffic. In KServe's standard mode and in a plain
    Deployment, new pods replace old ones. A version that does not become ready is undone.

    Args:
        predictor: Name of the InferenceService or Deployment, such as "nlu".
        namespace: Namespace of the predictor.
        bundle_uri: Output of publish_bundle.
        percent: Percentage of traffic for a canary.
        ready_seconds: Longest wait until the new version is ready.
    """
    from deployment.cluster import Cluster
    from deployment.rollout import start
    from deployment.state import read_predictor
    from saarthi_lib import logs
    from saarthi_lib.errors import ConfigError

    with logs.task():
        if not bundle_uri:
            raise ConfigError(
                f"predictor {predictor}: no bundle was published for the rollout; set publish_to "
                "to a place that the predictor can read, such as s3:// or gs://bucket/bundles"
            )
        show = logs.get_logger("rollout").info
        cluster = Cluster(namespace=namespace)
        now = read_predictor(cluster, predictor, namespace)
        start(cluster, now, bundle_uri, None, percent, ready_seconds, show)
