"""Training on several machines: start and watch a TrainJob of Kubeflow Trainer."""

import time
from typing import Any

from deployment.cluster import Cluster, Object
from deployment.wait import Show
from saarthi_lib.errors import SaarthiError

TRAIN_JOB = ("trainer.kubeflow.org/v1alpha1", "TrainJob")
POLL_SECONDS = 10.0


def train_job(
    name: str,
    namespace: str,
    *,
    image: str,
    arguments: list[str],
    nodes: int,
    processes: int,
    runtime: str,
    resources: dict[str, str],
    environment: list[Object],
    seconds: int,
) -> Object:
    """Make a TrainJob that runs `saarthi_lib.steps.worker` with torchrun on each node.

    Args:
        name: name of the job.
        namespace: namespace of the job.
        image: image of the pods.
        arguments: arguments of the worker.
        nodes: number of pods.
        processes: processes in each pod, one for each GPU.
        runtime: training runtime of the cluster, which sets up torchrun; Kubeflow Trainer has
            `torch-distributed`.
        resources: requests and limits of each pod.
        environment: environment variables of the pods, as Kubernetes describes them.
        seconds: time limit of the job.
    """
    api_version, kind = TRAIN_JOB
    trainer = {
        "image": image,
        "command": ["torchrun", "-m", "saarthi_lib.steps.worker"],
        "args": arguments,
        "numNodes": nodes,
        "numProcPerNode": processes,
        "env": environment,
        "resourcesPerNode": {"requests": resources, "limits": resources},
    }
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "saarthi"},
        },
        "spec": {
            "runtimeRef": {"name": runtime},
            "activeDeadlineSeconds": seconds,
            "trainer": trainer,
        },
    }


def run_train_job(job: Object, seconds: float, show: Show, poll: float = POLL_SECONDS) -> None:
    """Start a job, or find the running one, and wait until it is complete.

    A failed job with this name is deleted and started again.

    Args:
        job: job from `train_job`.
        seconds: longest time to wait.
        show: function that gets a line after each change of the state.
        poll: seconds between two requests.

    Raises:
        SaarthiError: the job failed (with the cluster's reason), or is not complete in time.
    """
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    cluster = Cluster(namespace=namespace)
    before = cluster.find(TRAIN_JOB, namespace, name)
    if before and _condition(before, "Failed"):
        cluster.delete(before)
        while cluster.find(TRAIN_JOB, namespace, name):
            time.sleep(poll)
    cluster.apply(job)
    end, shown = time.monotonic() + seconds, ""
    while True:
        now = cluster.find(TRAIN_JOB, namespace, name)
        if now is None:
            raise SaarthiError(f"TrainJob {name}: was deleted")
        if (state := _state(now)) != shown:
            shown = state
            show(f"TrainJob {name}: {state}")
        if _condition(now, "Complete"):
            return
        if failed := _condition(now, "Failed"):
            raise SaarthiError(
                f"TrainJob {name} has failed: {failed.get('reason', '')}: "
                f"{failed.get('message', '')}; see the logs of its pods (kubectl logs -l "
                f"jobset.sigs.k8s.io/jobset-name={name} -n {namespace})"
            )
        if time.monotonic() >= end:
            raise SaarthiError(f"TrainJob {name}: {state} after {seconds:g} s; it keeps running")
        time.sleep(poll)


def _state(job: Object) -> str:
    status = job.get("status") or {}
    for kind in ("Complete", "Failed", "Suspended"):
        if _condition(job, kind):
            return kind.lower()
    counts = [
        f"{each['name']}: {each['active']} active, {each['ready']} ready, {each['failed']} failed"
        for each in status.get("jobsStatus") or []
    ]
    return "; ".join(counts) or "created"


def _condition(job: Object, kind: str) -> dict[str, Any] | None:
    conditions = (job.get("status") or {}).get("conditions") or []
    found = (each for each in conditions if each["type"] == kind and each["status"] == "True")
    return next(found, None)
