"""Parts that all protocols share: models, limits, metrics, logs and errors."""

import time
from dataclasses import dataclass

from predictors.codecs import NAMES, Limits
from predictors.errors import InstanceError, InternalError, RequestError, as_request_error
from predictors.exchange import Exchange
from predictors.metrics import Metrics
from predictors.models import Models
from predictors.request_log import RequestLog, internal_error
from predictors.settings import Settings


@dataclass(frozen=True, slots=True)
class Service:
    """Shared parts of the server.

    Attributes:
        models: served models.
        limits: limits of a request's texts.
        settings: the server's settings.
        metrics: counters of requests.
        log: log of requests.
    """

    models: Models
    limits: Limits
    settings: Settings
    metrics: Metrics
    log: RequestLog

    def refusal(self, exchange: Exchange, error: Exception) -> RequestError:
        """Convert an error into the response to the client; log internal errors."""
        if isinstance(error, InstanceError):
            return error.named(NAMES[exchange.protocol].text)
        known = as_request_error(error)
        if known is not None:
            return known
        internal_error(error, exchange.id, exchange.trace)
        return InternalError(f"internal error; the log has it under {exchange.id}")

    def note(self, exchange: Exchange, outcome: str) -> None:
        """Count and log a finished request."""
        seconds = time.perf_counter() - exchange.started
        self.metrics.count(exchange.model, exchange.protocol, outcome, seconds)
        self.log.write(exchange, outcome, seconds)
