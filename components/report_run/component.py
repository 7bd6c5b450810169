"""Report how a run ended, and why."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def report_run(
    pipeline: str,
    api: str,
    status: dsl.PipelineTaskFinalStatus,
    report: dsl.Output[dsl.Markdown],
) -> None:
    """Report how a run ended, and why: as a page, in the log, and to a webhook.

    The webhook's address is read from the variable SAARTHI_WEBHOOK, which a secret sets; it is sent
    JSON with `text`, `pipeline`, `run_id`, `state` and `reason`, which chat services take as it is.

    Args:
        pipeline: The pipeline's name.
        api: Address of the KFP API, which is asked why tasks failed; empty: not asked.
        status: How the run ended, as KFP tells it.
        report: State and reason in Markdown.
    """
    import os
    from pathlib import Path

    from saarthi_lib import logs
    from saarthi_lib.lineage import RUN_ID_VARIABLE
    from saarthi_lib.reports.outcome import Outcome, notify

    logs.configure()
    run_id = os.environ.get(RUN_ID_VARIABLE, "")
    reasons = [note] if (note := logs.last_error()) else []
    if status.state != "SUCCEEDED" and api and not reasons:
        from kfp import Client

        details = Client(host=api).get_run(run_id).run_details
        for task in (details and details.task_details) or []:
            if task.state == "FAILED" and task.error and task.error.message:
                reasons.append(f"{task.display_name}: {task.error.message}")
    reason = "; ".join(reasons) or status.error_message or ""
    outcome = Outcome(pipeline, run_id, status.state, "" if status.state == "SUCCEEDED" else reason)
    Path(report.path).write_text(outcome.markdown, encoding="utf-8")
    report.metadata |= {"state": outcome.state, "reason": outcome.reason, "run_id": run_id}
    logs.get_logger("report").info("%s", outcome.line)
    notify(outcome, os.environ.get("SAARTHI_WEBHOOK", ""))
