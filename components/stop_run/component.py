"""Fail a run that misses a limit."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def stop_run(reason: str) -> None:
    """Fail a run that misses a limit, and report the reason.

    Args:
        reason: Metrics that miss their limits, from check_limits or check_canary.
    """
    from saarthi_lib import logs
    from saarthi_lib.errors import GateError

    with logs.task():
        raise GateError(f"stopped: {reason}")
