"""End a run that a gate has stopped."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def stop_run(reason: str) -> None:
    """End a run that a gate has stopped, as failed and with the gate's reason.

    Args:
        reason: Which figure missed which limit.
    """
    from saarthi_lib import logs
    from saarthi_lib.errors import GateError

    with logs.task():
        raise GateError(f"stopped: {reason}")
