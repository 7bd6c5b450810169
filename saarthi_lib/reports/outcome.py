"""How a pipeline's run ended, for people and for a webhook."""

import json
import urllib.request
from dataclasses import asdict, dataclass

from saarthi_lib.logs import get_logger

logger = get_logger("report")

_SECONDS = 20.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        pipeline: its name.
        run_id: of the run; empty where there is none.
        state: as KFP says it, such as `SUCCEEDED` or `FAILED`.
        reason: why it did not succeed; empty when it did.
    """

    pipeline: str
    run_id: str
    state: str
    reason: str

    @property
    def line(self) -> str:
        """The outcome in one line."""
        run = f" (run {self.run_id})" if self.run_id else ""
        return f"{self.pipeline}{run}: {self.state}" + (f": {self.reason}" if self.reason else "")

    @property
    def markdown(self) -> str:
        """The outcome as a small page."""
        rows = [f"# {self.pipeline}: {self.state}"]
        rows += [self.reason] if self.reason else []
        rows += [f"Run `{self.run_id}`"] if self.run_id else []
        return "\n\n".join(rows) + "\n"


def notify(outcome: Outcome, webhook: str) -> None:
    """Send the outcome to a webhook as JSON; one that does not take it is logged, not raised.

    Args:
        outcome: `text` is added to its fields, which is what chat services show.
        webhook: its URL; empty for none.
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
        # Without the address: who may know it is for the secret to say.
        logger.warning("the webhook does not take the report: %s", type(error).__name__)
