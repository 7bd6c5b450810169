"""Send a part of a predictor's traffic to a published bundle."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def start_canary(
    predictor: str, namespace: str, bundle_uri: str, percent: int, ready_seconds: int
) -> None:
    """Send a part of a predictor's traffic to a published bundle, and wait until it is ready.

    A canary that does not become ready is rolled back.

    Args:
        predictor: Name of the InferenceService, such as "nlu"; `saarthi deploy` creates it.
        namespace: Namespace of the InferenceService.
        bundle_uri: Output of publish_bundle.
        percent: Percentage of traffic for the canary.
        ready_seconds: Longest wait until the canary is ready.
    """
    from deployment.unattended import begin_canary
    from saarthi_lib import logs
    from saarthi_lib.errors import ConfigError

    with logs.task():
        if not bundle_uri:
            raise ConfigError(
                f"predictor {predictor}: no bundle was published for the rollout; set publish_to "
                "to a place that the predictor can read, such as s3:// or gs://bucket/bundles"
            )
        show = logs.get_logger("rollout").info
        begin_canary(predictor, namespace, bundle_uri, percent, ready_seconds, show)
