"""Quality gates: the tasks of a block run only if a check passes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kfp import dsl

from components.check_limits.component import check_limits
from components.stop_run.component import stop_run
from pipelines.resources import Environment


@contextmanager
def gate(environment: Environment, what: str, limits: Any, metrics: Any) -> Iterator[None]:
    """Run the tasks of the block if metrics meet their limits; else fail the run."""
    task = check_limits(what=what, limits=limits, metrics=metrics)
    task.set_display_name(f"gate-{what}")
    with passed(environment, environment.give(task, "control").output, what):
        yield


@contextmanager
def passed(environment: Environment, reason: Any, what: str) -> Iterator[None]:
    """Run the tasks of the block if a check's reason is empty; else fail the run with it."""
    with dsl.If(reason == "", name=f"{what}-passed"):
        yield
    with dsl.Else(name=f"{what}-failed"):
        task = stop_run(reason=reason, run_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER)
        task.set_display_name(f"stop-after-{what}")
        environment.give(task, "control", cached=False).set_retry(0)  # a retry fails again
