"""Fail a run that misses a limit."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def stop_run(reason: str, run_name: str) -> None:
    """Fail a run that misses a limit, and report the reason in the log and to the webhook.

    The webhook gets the reason from here, because the report at the run's end can read it only
    from the KFP API.

    Args:
        reason: Metrics that miss their limits, from check_limits or check_canary.
        run_name: Name of the run, for the message.
    """
    import os

    from saarthi_lib import logs
    from saarthi_lib.errors import GateError
    from saarthi_lib.lineage import RUN_ID_VARIABLE
    from saarthi_lib.reports.outcome import Outcome, notify

    with logs.task():
        error = GateError(f"stopped: {reason}")
        run_id = os.environ.get(RUN_ID_VARIABLE, "")
        outcome = Outcome(run_name, run_id, "FAILED", str(error))
        if not os.environ.get(logs.ERROR_FILE_VARIABLE):  # from there the report has the reason
            notify(outcome, os.environ.get("SAARTHI_WEBHOOK", ""))
        raise error
