"""Report the end of a run."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def report_run(
    pipeline: str,
    api: str,
    status: dsl.PipelineTaskFinalStatus,
    report: dsl.Output[dsl.Markdown],
) -> None:
    """Report the end of a run as a page, in the log, and to a webhook.

    A secret sets the webhook's address in the variable SAARTHI_WEBHOOK. The message is JSON with
    `text`, `pipeline`, `run_id`, `state` and `reason`, which chat services accept.

    Args:
        pipeline: Name of the pipeline.
        api: Address of the KFP API, to read the errors of failed tasks; empty: do not read them.
        status: Final state of the run, given by KFP.
        report: State and reason in Markdown.
    """
    import os
    from pathlib import Path

    from saarthi_lib import logs
    from saarthi_lib.lineage import RUN_ID_VARIABLE
    from saarthi_lib.reports.outcome import Outcome, notify

    logs.configure()
    run_id = os.environ.get(RUN_ID_VARIABLE, "")
    succeeded = status.state == "SUCCEEDED"
    reasons = [logs.last_error()]
    if not (succeeded or reasons[0]) and api:
        from kfp import Client

        details = Client(host=api).get_run(run_id).run_details
        reasons = [
            f"{task.display_name}: {task.error.message}"
            for task in (details and details.task_details) or []
            if task.state == "FAILED" and task.error and task.error.message
        ]
    reason = "" if succeeded else "; ".join(reasons) or status.error_message or ""
    outcome = Outcome(pipeline, run_id, status.state, reason)
    Path(report.path).write_text(outcome.markdown, encoding="utf-8")
    report.metadata |= {"state": outcome.state, "reason": outcome.reason, "run_id": run_id}
    logs.get_logger("report").info("%s", outcome.line)
    notify(outcome, os.environ.get("SAARTHI_WEBHOOK", ""))
