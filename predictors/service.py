"""What the protocols share: the models, the limits, and what is noted of each request."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from predictors.codecs import NAMES, Limits, Row
from predictors.errors import InstanceError, InternalError, RequestError, as_request_error
from predictors.metrics import Metrics
from predictors.model import BundleModel
from predictors.models import Models
from predictors.request_log import RequestLog, internal_error


@dataclass(slots=True)
class Exchange:
    """A request on its way; `model` and `rows` are filled in as they become known.

    Attributes:
        protocol: one of `metrics.PROTOCOLS`.
        id: of the request.
        trace: W3C trace context, if there is one.
        started: in the time of `time.perf_counter`.
        model: that is asked.
        rows: that are asked about.
    """

    protocol: str
    id: str
    trace: str | None
    started: float
    model: BundleModel | None = None
    rows: Sequence[Row] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Service:
    """Answers requests of every protocol.

    Attributes:
        models: what is served.
        limits: of a request's texts.
        max_body_bytes: of a request.
        deadline_seconds: most that a request may take.
        metrics: where requests are counted.
        log: where requests are written.
    """

    models: Models
    limits: Limits
    max_body_bytes: int
    deadline_seconds: float
    metrics: Metrics
    log: RequestLog

    def refusal(self, exchange: Exchange, error: Exception) -> RequestError:
        """What the client is told of an error; a fault of ours goes to the log."""
        if isinstance(error, InstanceError):
            return error.named(NAMES[exchange.protocol].text)
        known = as_request_error(error)
        if known is not None:
            return known
        internal_error(error, exchange.id, exchange.trace)
        return InternalError(f"internal error; the log has it under {exchange.id}")

    def note(self, exchange: Exchange, outcome: str, seconds: float) -> None:
        """Count and log a request that has ended."""
        self.metrics.count(exchange.model, exchange.protocol, outcome, seconds)
        self.log.write(
            request=exchange.id,
            trace=exchange.trace,
            protocol=exchange.protocol,
            model=exchange.model.name if exchange.model else None,
            outcome=outcome,
            seconds=seconds,
            rows=exchange.rows,
        )
