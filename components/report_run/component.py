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
    `text`, `pipeline`, `run_id`, `state` and `reason`, which chat services accept. The state is
    SUCCEEDED, FAILED, CANCELED or, without a state of the platform, UNKNOWN.

    Args:
        pipeline: Name of the pipeline.
        api: Address of the KFP API, to read the errors of failed tasks; empty: that of this
            namespace, if there is one.
        status: Final state of the run, given by KFP.
        report: State and reason in Markdown.
    """
    import os
    from pathlib import Path

    from saarthi_lib import logs
    from saarthi_lib.lineage import RUN_ID_VARIABLE
    from saarthi_lib.reports import outcome as ends

    logs.configure()
    logger = logs.get_logger("report")
    run_id = os.environ.get(RUN_ID_VARIABLE, "")
    reason = logs.last_error()
    # Kubernetes sets these variables in each pod of the API's namespace.
    host, port = (os.environ.get(f"ML_PIPELINE_SERVICE_{each}") for each in ("HOST", "PORT"))
    api = api or (f"http://{host}:{port}" if host and port else "")
    if not reason and api and ends.outcome(pipeline, run_id, status.state, "").state != "SUCCEEDED":
        try:
            from kfp import Client

            details = Client(host=api).get_run(run_id).run_details
            tasks = (details and details.task_details) or []
            reason = "; ".join(
                f"{task.display_name}: {task.error.message}"
                for task in tasks
                if task.state == "FAILED" and task.error and task.error.message
            )
        except Exception as error:  # the report must not depend on the API
            logger.warning("%s: cannot read the errors of failed tasks (%s)", api, error)
    reason = reason or status.error_message or ""
    outcome = ends.outcome(pipeline, run_id, status.state, reason)
    Path(report.path).write_text(outcome.markdown, encoding="utf-8")
    report.metadata |= {"state": outcome.state, "reason": outcome.reason, "run_id": run_id}
    logger.info("%s", outcome.line)
    ends.notify(outcome, os.environ.get("SAARTHI_WEBHOOK", ""))
