"""Training on several machines by Kubeflow Trainer: a TrainJob, started and watched."""

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
    environment: dict[str, str],
    seconds: int,
) -> Object:
    """The TrainJob that runs `saarthi_lib.steps.worker` by torchrun on each of its nodes.

    Args:
        name: of the job.
        namespace: where it runs.
        image: of the pods.
        arguments: of the worker.
        nodes: pods.
        processes: in each pod, one a GPU.
        runtime: the cluster's training runtime, which sets up torchrun; `torch-distributed` comes
            with Kubeflow Trainer.
        resources: requests and limits of each pod.
        environment: variables of the pods.
        seconds: after which the job is ended.
    """
    api_version, kind = TRAIN_JOB
    trainer = {
        "image": image,
        "command": ["torchrun", "-m", "saarthi_lib.steps.worker"],
        "args": arguments,
        "numNodes": nodes,
        "numProcPerNode": processes,
        "env": [{"name": key, "value": value} for key, value in environment.items()],
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
    """Start a job, or find the one that was started before, and wait until it is complete.

    A job of that name that has failed is started anew.

    Args:
        job: of `train_job`.
        seconds: to wait.
        show: is given a line whenever its state changes.
        poll: seconds between two looks.

    Raises:
        SaarthiError: the job has failed, with what the cluster says of it, or is not done in time.
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
            raise SaarthiError(f"TrainJob {name}: somebody has deleted it")
        if (state := _state(now)) != shown:
            shown = state
            show(f"TrainJob {name}: {state}")
        if _condition(now, "Complete"):
            return
        if failed := _condition(now, "Failed"):
            raise SaarthiError(
                f"TrainJob {name} has failed: {failed.get('reason', '')}: "
                f"{failed.get('message', '')}; its pods' logs say more (kubectl logs -l "
                f"jobset.sigs.k8s.io/jobset-name={name} -n {namespace})"
            )
        if time.monotonic() >= end:
            raise SaarthiError(f"TrainJob {name}: {state} after {seconds:g} s; it goes on")
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
