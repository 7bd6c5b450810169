"""What each task asks of a cluster, in one place, by environment."""

from dataclasses import dataclass

from kfp import dsl


@dataclass(frozen=True)
class Resources:
    """Requests of one task; None leaves the cluster's default.

    `accelerators` is asked for together with `accelerator_type`, the resource's name on the node.
    """

    cpu: str | None = None
    memory: str | None = None
    accelerator_type: str | None = None
    accelerators: int = 0
    retries: int = 0


_SMALL = Resources(cpu="2", memory="4Gi", retries=1)
_TRAINING = Resources(cpu="4", memory="16Gi", retries=1)
_GPU = Resources(
    cpu="4", memory="16Gi", accelerator_type="nvidia.com/gpu", accelerators=1, retries=2
)

# Kinds of task: "light" reads tables and runs the student, "training" runs the teacher or fits.
ENVIRONMENTS: dict[str, dict[str, Resources]] = {
    "local": {"light": Resources(), "training": Resources()},
    "dev": {"light": _SMALL, "training": _TRAINING},
    "prod": {"light": _SMALL, "training": _GPU},
}


def give(task: dsl.PipelineTask, kind: str, env: str) -> dsl.PipelineTask:
    """Set the requests of a task."""
    wanted = ENVIRONMENTS[env][kind]
    if wanted.cpu:
        task.set_cpu_limit(wanted.cpu)
    if wanted.memory:
        task.set_memory_limit(wanted.memory)
    if wanted.accelerators:
        task.set_accelerator_type(wanted.accelerator_type)
        task.set_accelerator_limit(wanted.accelerators)
    if wanted.retries:
        task.set_retry(wanted.retries, backoff_duration="30s", backoff_factor=2)
    return task
