"""Make the canary the stable predictor."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def promote_canary(predictor: str, namespace: str, bundle_uri: str, ready_seconds: int) -> None:
    """Make the canary the stable predictor, with all traffic.

    Args:
        predictor: Name of the InferenceService.
        namespace: Namespace of the InferenceService.
        bundle_uri: Bundle to promote; the task does nothing if it is the stable one already.
        ready_seconds: Longest wait until the predictor is ready.
    """
    from deployment.unattended import promote_bundle
    from saarthi_lib import logs

    with logs.task():
        show = logs.get_logger("rollout").info
        promote_bundle(predictor, namespace, bundle_uri, ready_seconds, show)
