"""Read compiled pipelines as KFP's backend does: a file has two protobufs."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

ENVIRONMENTS = ("local", "dev", "prod")
PIPELINES = ("nlu", "ner", "joint", "sweep", "nightly")


@dataclass(frozen=True)
class Task:
    """A task that runs a container, with its spec, container and pod."""

    name: str
    component: str
    spec: pb.PipelineTaskSpec
    container: Any
    pod: Any

    @property
    def runs(self) -> str:
        """Name of the component, without the number that the compiler adds to a repeated one."""
        return self.component.removeprefix("comp-").rstrip("-0123456789")


@dataclass(frozen=True)
class Compiled:
    """A parsed file."""

    spec: pb.PipelineSpec
    platform: pb.PlatformSpec

    def tasks(self) -> Iterator[Task]:
        """Every task that runs a container, in all groups and sub-pipelines."""
        executors = json_format.MessageToDict(self.spec.deployment_spec)["executors"]
        pods = self.platform.platforms["kubernetes"].deployment_spec.executors
        dags = [self.spec.root.dag, *(each.dag for each in self.spec.components.values())]
        for dag in dags:
            for name, task in dag.tasks.items():
                component = task.component_ref.name
                label = self.spec.components[component].executor_label
                if label:
                    container = json_format.ParseDict(
                        executors[label], pb.PipelineDeploymentConfig.ExecutorSpec()
                    ).container
                    pod = json_format.ParseDict(
                        json_format.MessageToDict(pods[label]),
                        kubernetes.KubernetesExecutorConfig(),
                    )
                    yield Task(name, component, task, container, pod)


@cache
def read(path: Path) -> Compiled:
    """Parse a compiled file; an unknown field is an error."""
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    platform = documents[1] if len(documents) > 1 else {}
    return Compiled(
        json_format.ParseDict(documents[0], pb.PipelineSpec()),
        json_format.ParseDict(platform, pb.PlatformSpec()),
    )
