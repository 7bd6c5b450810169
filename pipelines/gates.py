"""Quality gates: what follows one is run only when the figures hold their limits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kfp import dsl

from components.check_limits.component import check_limits
from components.stop_run.component import stop_run
from pipelines.resources import Environment


@contextmanager
def gate(environment: Environment, what: str, limits: Any, figures: Any) -> Iterator[None]:
    """Run the tasks of the block when figures hold limits; else end the run and say why."""
    task = check_limits(what=what, limits=limits, figures=figures)
    task.set_display_name(f"gate-{what}")
    with passed(environment, environment.give(task, "control").output, what):
        yield


@contextmanager
def passed(environment: Environment, reason: Any, what: str) -> Iterator[None]:
    """Run the tasks of the block when a check's reason is empty; else end the run with it."""
    with dsl.If(reason == "", name=f"{what}-passed"):
        yield
    with dsl.Else(name=f"{what}-failed"):
        task = stop_run(reason=reason)
        task.set_display_name(f"stop-after-{what}")
        # Asked again at once it says the same, so it is not repeated.
        environment.give(task, "control", cached=False).set_retry(0)
