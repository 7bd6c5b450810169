"""A TrainJob: its manifest by the schema, its start and its end."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from kfp import dsl

from components.train_teacher_on_nodes.component import train_teacher_on_nodes
from deployment.train_job import TRAIN_JOB, run_train_job, train_job
from saarthi_lib.errors import SaarthiError
from tests.deployment.api_server import ApiServer
from tests.manifests.test_manifests import custom_validator
from tests.stores.s3 import S3Bucket

KEY = {
    "name": "AWS_ACCESS_KEY_ID",
    "valueFrom": {"secretKeyRef": {"name": "saarthi-s3", "key": "KEY", "optional": True}},
}


def job() -> dict[str, Any]:
    return train_job(
        "teacher",
        "ml",
        image="saarthi/train:1",
        arguments=["--config", "{}", "--data", "gs://b/d", "--out", "gs://b/t"],
        nodes=2,
        processes=4,
        runtime="torch-distributed",
        resources={"nvidia.com/gpu": "4", "memory": "64Gi"},
        environment=[{"name": "SAARTHI_RUN_ID", "value": "r1"}, KEY],
        seconds=3600,
    )


def test_the_manifest_fits_the_schema() -> None:
    version, kind = TRAIN_JOB
    validator = custom_validator(kind, version)
    validator.validate(job())
    wrong = copy.deepcopy(job())
    wrong["spec"]["trainer"]["numNode"] = 2
    with pytest.raises(jsonschema.ValidationError, match="numNode"):
        validator.validate(wrong)


def condition(kind: str, message: str = "") -> dict[str, Any]:
    found = {"type": kind, "status": "True", "reason": f"Job{kind}", "message": message}
    return {"conditions": [found]}


def working(active: int) -> dict[str, Any]:
    counts = {"active": active, "failed": 0, "ready": active, "succeeded": 0, "suspended": 0}
    return {"jobsStatus": [{"name": "node", **counts}]}


def run(server: ApiServer, *states: dict[str, Any], seconds: float = 20) -> list[str]:
    """Run the job while Kubeflow Trainer moves it on by one state a read."""

    def move(state: dict[str, Any]) -> None:
        server.get("TrainJob", "teacher", "ml")["status"] = state

    server.steps = [lambda state=state: move(state) for state in states]  # type: ignore[misc]
    lines: list[str] = []
    run_train_job(job(), seconds, lines.append, poll=0.01)
    return lines


def deletions(server: ApiServer) -> int:
    return [form for form, _, _ in server.writes].count("DELETE")


def test_a_job_is_watched_until_it_is_complete(server: ApiServer) -> None:
    assert run(server, working(1), working(2), working(2), condition("Complete")) == [
        "TrainJob teacher: node: 1 active, 1 ready, 0 failed",
        "TrainJob teacher: node: 2 active, 2 ready, 0 failed",
        "TrainJob teacher: complete",
    ]
    assert server.get("TrainJob", "teacher", "ml")["spec"]["trainer"]["numNodes"] == 2
    assert run(server) == ["TrainJob teacher: complete"]  # a second run finds it done
    assert deletions(server) == 0


def test_a_failed_job_gives_the_reason_and_restarts(server: ApiServer) -> None:
    with pytest.raises(SaarthiError, match=r"JobFailed: node 1 ran out of memory.*kubectl logs"):
        run(server, working(2), condition("Failed", "node 1 ran out of memory"))
    lines = run(server, condition("Failed"), working(2), condition("Complete"))
    assert lines[-1] == "TrainJob teacher: complete"
    assert deletions(server) == 1


def test_a_late_job_is_left_running(server: ApiServer) -> None:
    with pytest.raises(SaarthiError, match=r"after 0\.05 s; it keeps running"):
        run(server, working(2), seconds=0.05)
    assert deletions(server) == 0


def test_pods_use_kfps_own_store_with_the_keys(
    server: ApiServer, s3: S3Bucket, tmp_path: Path
) -> None:
    data = SimpleNamespace(uri=f"minio://{s3.name}/data", path="unused")
    teacher = SimpleNamespace(
        uri=f"minio://{s3.name}/teacher", path=str(tmp_path / "teacher"), metadata={}
    )

    def end() -> None:
        s3.put("teacher-of-trainer/scores.json", '{"main": 0.9}')
        for (kind, _, _), found in server.objects.items():
            if kind == "TrainJob":
                found["status"] = condition("Complete")

    server.steps = [end]
    train_teacher_on_nodes.python_func(
        run_config={}, teacher_config={}, nodes=2, gpus_per_node=1, resources={}, namespace="ml",
        runtime="torch-distributed", image="saarthi/train:1", minutes=1,
        variables=[KEY], data=data, teacher=teacher,
        metrics=dsl.Metrics(uri=str(tmp_path / "metrics")),
    )  # fmt: skip
    [trainer] = [
        found["spec"]["trainer"] for (kind, _, _), found in server.objects.items()
        if kind == "TrainJob"
    ]  # fmt: skip
    assert f"s3://{s3.name}/data" in trainer["args"]
    assert f"s3://{s3.name}/teacher-of-trainer" in trainer["args"]
    names = [each["name"] for each in trainer["env"]]
    assert trainer["env"][0] == KEY and names[1:] == ["SAARTHI_RUN_ID", "SAARTHI_CHECKPOINTS"]
    assert teacher.metadata["main"] == 0.9 and (tmp_path / "teacher" / "scores.json").is_file()
