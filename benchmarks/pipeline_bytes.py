"""Compute the bytes that each task of a finished local run moves on a cluster, and workflow sizes.

python benchmarks/pipeline_bytes.py [--run runs/intents] [--pipeline nlu] [--students 24]

KFP's launcher downloads every input artifact whole before a task starts, and uploads every output.
The sizes are those of the artifacts in the run's folder. Argo stores a workflow as one object of at
most 1 MiB: the compiled spec, and the state of each node, compressed. The nodes are built here as
KFP and Argo build them, from the sources of KFP 2.17; no cluster is used.
"""

import base64
import gzip
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from common import ROOT, begin, parser_of, print_table
from google.protobuf import json_format

from pipelines.compile import PIPELINES, make_pipeline
from pipelines.resources import Environment
from saarthi_lib.config import TrainConfig
from saarthi_lib.storage import folder_size

LIMIT = 1024  # KiB of a workflow
CONFIG = TrainConfig().section("student")  # value of a parameter with a configuration


class Moved(NamedTuple):
    """Bytes of a task's inputs and outputs."""

    task: str
    downloaded: int
    uploaded: int


class Pipeline:
    """A compiled pipeline, as the messages that KFP's backend reads."""

    def __init__(self, name: str, environment: str) -> None:
        made = make_pipeline(name, Environment.load(environment))
        self.spec: dict[str, Any] = json_format.MessageToDict(made.pipeline_spec)
        self._platform = made.platform_spec
        self.components: dict[str, Any] = self.spec["components"]

    @cached_property
    def containers(self) -> dict[str, str]:
        """JSON of the container of each component that runs one."""
        executors = self.spec["deploymentSpec"]["executors"]
        return {
            name: packed(executors[component["executorLabel"]]["container"])
            for name, component in self.components.items()
            if "executorLabel" in component
        }

    @cached_property
    def pods(self) -> dict[str, str]:
        """JSON of the settings of the pod of each of these components."""
        platform = json_format.MessageToDict(self._platform)["platforms"]["kubernetes"]
        executors = platform["deploymentSpec"]["executors"]
        return {
            name: packed(executors.get(component["executorLabel"], {}))
            for name, component in self.components.items()
            if "executorLabel" in component
        }

    def tasks(self, students: int, dag: Any = None) -> Iterator[tuple[dict[str, Any], str]]:
        """Each task of a run with its component, in all groups; a loop runs for each student."""
        for _, task in sorted((dag or self.spec["root"]["dag"])["tasks"].items()):
            component = task["componentRef"]["name"]
            yield task, component
            inner = self.components[component].get("dag")
            loops = "parameterIterator" in task or "artifactIterator" in task
            for _ in range((students if loops else 1) if inner else 0):
                yield from self.tasks(students, inner)


def packed(message: Any) -> str:
    """JSON without spaces, with sorted keys as KFP writes it."""
    return json.dumps(message, separators=(",", ":"), sort_keys=True)


def moved(pipeline: Pipeline, artifacts: Path) -> list[Moved]:
    """Bytes of every task whose inputs a run has written, in the order of the pipeline.

    Args:
        pipeline: the pipeline that the run has used.
        artifacts: folder of KFP's local runner, `.kfp` in the run's folder.
    """
    found: list[Moved] = []

    def size(task: str, output: str) -> int:
        made = sorted(artifacts.glob(f"*/{task}/{output}"), key=lambda path: path.stat().st_mtime)
        path = made[-1] if made else None
        return 0 if path is None else folder_size(path) if path.is_dir() else path.stat().st_size

    def walk(dag: Any, given: Mapping[str, int]) -> dict[str, int]:
        """Bytes of the outputs of a group, by name."""
        outputs: dict[tuple[str, str], int] = {}
        waiting = dict(dag["tasks"])
        while waiting:
            name = next(
                name
                for name, task in waiting.items()
                if waiting.keys().isdisjoint(task.get("dependentTasks", ()))
            )
            task = waiting.pop(name)
            inputs: dict[str, int] = {}
            for key, source in task.get("inputs", {}).get("artifacts", {}).items():
                if "componentInputArtifact" in source:
                    inputs[key] = given.get(source["componentInputArtifact"], 0)
                else:
                    made = source["taskOutputArtifact"]
                    inputs[key] = outputs.get((made["producerTask"], made["outputArtifactKey"]), 0)
            component = pipeline.components[task["componentRef"]["name"]]
            if "dag" in component:
                of_group = walk(component["dag"], inputs)
            else:
                named = component.get("outputDefinitions", {}).get("artifacts", {})
                of_group = {output: size(name, output) for output in named}
                found.append(Moved(name, sum(inputs.values()), sum(of_group.values())))
            outputs |= {(name, output): each for output, each in of_group.items()}
        selected = dag.get("outputs", {}).get("artifacts", {})
        return {
            output: sum(
                outputs.get((each["producerSubtask"], each["outputArtifactKey"]), 0)
                for each in selectors["artifactSelectors"]
            )
            for output, selectors in selected.items()
        }

    walk(pipeline.spec["root"]["dag"], {})
    return found


def spec_bytes(pipeline: Pipeline) -> int:
    """Bytes of the workflow's spec: components, containers and pods once, and each task's JSON."""
    # Components with the same container are stored once.
    components = {
        pipeline.containers.get(name, name): packed(component)
        for name, component in pipeline.components.items()
    }
    texts = [*components.values(), *set(pipeline.containers.values()), *pipeline.pods.values()]
    # A template has a driver and an executor of each task, with references to the parameters.
    tasks = [len(packed(packed(task))) + 900 for task, _ in pipeline.tasks(students=1)]
    named = [len(packed({"name": "components-" + 64 * "0", "value": text})) for text in texts]
    return sum(named) + sum(tasks)


def node_bytes(pipeline: Pipeline, students: int) -> int:
    """Bytes of the workflow's nodes after a run, as Argo stores them: gzip in base64."""
    numbers, nodes = Random(0), []
    for task, component in pipeline.tasks(students):
        definition = pipeline.components[component]
        container, pod = pipeline.containers.get(component, ""), pipeline.pods.get(component, "")
        state = {"id": f"saarthi-{numbers.getrandbits(32)}", "phase": "Succeeded"}
        driver = [packed(definition), packed(task), container, pod, str(numbers.getrandbits(32))]
        # The pod's patch has the container and the values and addresses of its inputs and outputs.
        inputs, outputs = (definition.get(f"{side}Definitions", {}) for side in ("input", "output"))
        values = {
            name: CONFIG if each["parameterType"] == "STRUCT" else "value"
            for name, each in inputs.get("parameters", {}).items()
        }
        addresses = {
            name: f"s3://bucket/pipelines/saarthi/{numbers.getrandbits(128):032x}/{name}"
            for name in sorted((*inputs.get("artifacts", {}), *outputs.get("artifacts", {})))
        }
        patch = packed([container, pod, packed([values, addresses])])
        nodes.append({**state, "inputs": driver, "outputs": [patch if container else ""]})
        if container:  # the executor, its retries and its pod
            nodes += [{**state, "inputs": [patch]}] * 3
    return len(base64.b64encode(gzip.compress(packed(nodes).encode())))


def main() -> None:
    """Print both tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "intents")
    parser.add_argument("--pipeline", choices=PIPELINES, default="nlu", help="(%(default)s)")
    parser.add_argument("--students", type=int, default=24, help="of a sweep (%(default)s)")
    options = begin(parser)
    artifacts = options.run / ".kfp"
    if not artifacts.is_dir():
        sys.exit(f"{options.run}: not the folder of a local pipeline run; make run writes one")
    tasks = moved(Pipeline(options.pipeline, "local"), artifacts)
    ran = {path.name for path in artifacts.glob("*/*") if path.is_dir()}
    run = [task for task in tasks if task.task in ran]
    other = [each for each in tasks if each.task not in ran and each.downloaded]
    rows = [*run, Moved("all", sum(t.downloaded for t in run), sum(t.uploaded for t in run))]
    rows += [each._replace(task=f"{each.task} (not in this run)") for each in other]
    print_table(
        f"Bytes of each task of {options.pipeline}, {options.run.name}",
        ["task", "MB downloaded", "MB uploaded"],
        [[name, *(f"{each / 1e6:.3f}" for each in sizes)] for name, *sizes in rows],
    )
    sizes = []
    for name in PIPELINES:
        pipeline, students = Pipeline(name, "prod"), options.students if name == "sweep" else 1
        spec, nodes = spec_bytes(pipeline) / 1024, node_bytes(pipeline, students) / 1024
        title = f"{name}, {students} students" if name == "sweep" else name
        sizes.append([title, *(f"{each:.0f}" for each in (spec, nodes, spec + nodes))])
    print_table(
        f"KiB of the Argo workflow, of {LIMIT} (prod)",
        ["pipeline", "spec", "nodes, compressed", "all"],
        sizes,
    )


if __name__ == "__main__":
    main()
