"""A request in progress, as metrics and logs see it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from predictors.codecs import Row
from predictors.model import BundleModel


@dataclass(slots=True)
class Exchange:
    """A request in progress; `model` and `rows` are set when they are known.

    Attributes:
        protocol: one of `metrics.PROTOCOLS`.
        id: identifier of the request.
        trace: W3C trace context, if given.
        started: start on the clock of `time.perf_counter`.
        model: requested model.
        rows: requested texts.
    """

    protocol: str
    id: str
    trace: str | None
    started: float = field(default_factory=time.perf_counter)
    model: BundleModel | None = None
    rows: Sequence[Row] = ()
