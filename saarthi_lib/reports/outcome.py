"""Outcome of a pipeline run, as text and as a message to a webhook."""

import json
import urllib.request
from dataclasses import asdict, dataclass

from saarthi_lib.logs import get_logger

logger = get_logger("report")

_SECONDS = 20.0
# A cluster reports the state of the group of all tasks; only KFP's local runner says SUCCEEDED.
_SUCCEEDED = ("COMPLETE", "CACHED", "SUCCEEDED")
_ENDED = ("FAILED", "CANCELED")


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run.

    Attributes:
        pipeline: name of the pipeline.
        run_id: identifier of the run, or empty.
        state: `SUCCEEDED`, `FAILED`, `CANCELED` or `UNKNOWN`.
        reason: reason of a failure; empty after a success.
    """

    pipeline: str
    run_id: str
    state: str
    reason: str

    @property
    def line(self) -> str:
        """Outcome in one line."""
        run = f" (run {self.run_id})" if self.run_id else ""
        return f"{self.pipeline}{run}: {self.state}" + (f": {self.reason}" if self.reason else "")

    @property
    def markdown(self) -> str:
        """Outcome as a small page."""
        rows = [f"# {self.pipeline}: {self.state}"]
        rows += [self.reason] if self.reason else []
        rows += [f"Run `{self.run_id}`"] if self.run_id else []
        return "\n\n".join(rows) + "\n"


def outcome(pipeline: str, run_id: str, state: str | None, reason: str) -> Outcome:
    """Outcome of a run by the state of its tasks at its end.

    KFP can leave the state at RUNNING, for example if a pod was killed or all tasks of a loop have
    ended; such a run is `UNKNOWN`, or `FAILED` if a task has a reason.

    Args:
        pipeline: name of the pipeline.
        run_id: identifier of the run, or empty.
        state: state of the group of all tasks.
        reason: errors of failed tasks, as far as known.
    """
    if state in _SUCCEEDED:
        return Outcome(pipeline, run_id, "SUCCEEDED", "")
    if state not in _ENDED:
        seen = f"the platform reports the state {state or 'nothing'}; see the run's page"
        state, reason = ("FAILED", reason) if reason else ("UNKNOWN", seen)
    return Outcome(pipeline, run_id, state, reason)


def notify(outcome: Outcome, webhook: str) -> None:
    """Send the outcome to a webhook as JSON; log a failure instead of raising it.

    Args:
        outcome: outcome of the run. Chat services show the added field `text`.
        webhook: URL of the webhook, or empty.
    """
    if not webhook:
        return
    body = json.dumps({"text": outcome.line, **asdict(outcome)}).encode()
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(webhook, body, headers)
        with urllib.request.urlopen(request, timeout=_SECONDS):
            pass
    except (OSError, ValueError) as error:
        # Do not log the URL, which is secret.
        logger.warning("the webhook did not accept the report: %s", type(error).__name__)
