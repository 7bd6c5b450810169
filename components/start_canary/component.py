"""Give a published bundle a part of a predictor's traffic."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def start_canary(
    predictor: str, namespace: str, bundle_uri: str, percent: int, ready_seconds: int
) -> None:
    """Give a published bundle a part of a predictor's traffic, and wait until it is ready.

    A canary that does not become ready is taken back.

    Args:
        predictor: The InferenceService, such as "nlu"; `saarthi deploy` makes it.
        namespace: Where it is.
        bundle_uri: Of publish_bundle.
        percent: The canary's part of the traffic.
        ready_seconds: How long it may take to become ready.
    """
    from deployment.unattended import begin_canary
    from saarthi_lib import logs
    from saarthi_lib.errors import ConfigError

    with logs.task():
        if not bundle_uri:
            raise ConfigError(
                f"predictor {predictor}: there is no bundle to roll out, since publish_to is "
                "empty; set it to where the predictor can fetch bundles, such as gs://bucket/bundles"
            )
        show = logs.get_logger("rollout").info
        begin_canary(predictor, namespace, bundle_uri, percent, ready_seconds, show)
