"""Make the canary the stable predictor."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def promote_canary(predictor: str, namespace: str, bundle_uri: str, ready_seconds: int) -> None:
    """Make the canary the stable predictor, with all the traffic.

    Args:
        predictor: The InferenceService.
        namespace: Where it is.
        bundle_uri: The bundle that is promoted; where it is the stable one already, all is done.
        ready_seconds: How long the predictor may take to become ready.
    """
    from deployment.unattended import promote_bundle
    from saarthi_lib import logs

    with logs.task():
        show = logs.get_logger("rollout").info
        promote_bundle(predictor, namespace, bundle_uri, ready_seconds, show)
