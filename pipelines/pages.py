"""Pages in Markdown about the components and the pipelines, written from their KFP specs."""

import itertools
import json
from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import Any

import docstring_parser
from kfp.dsl.base_component import BaseComponent

from pipelines.compile import all_components, make_pipeline
from pipelines.resources import Environment

_COMPONENTS = """\
# Components

One container component per step, all with one image. Each works in any pipeline:

```python
from kfp.components import load_component_from_file

train_teacher = load_component_from_file("build/components/train_teacher.yaml")
```

`saarthi pipeline compile --output build/` writes these files. Artifacts have metrics, digests and
the run's id in their metadata.

Written by `make generated` from the components; a test fails when this page is out of date.

"""
_PIPELINES = """\
# Pipelines

A box is a container. A frame is a group: a sub-pipeline, a loop, or the tasks behind a gate.
[components.md](components.md) describes each container.

Written by `make generated` from the compiled specs; a test fails when this page is out of date.
"""


def component_page() -> str:
    """Write the page of all components."""
    found = all_components()
    summaries = {name: _summary(component) for name, component in found.items()}
    lines = [f"- [{name}](#{name}): {summary}" for name, summary in summaries.items()]
    for name, component in found.items():
        lines += ["", f"## {name}", "", *_description(component)]
    return _COMPONENTS + "\n".join(lines) + "\n"


def pipeline_page() -> str:
    """Write the page of all pipelines, with a diagram of each."""
    lines = []
    for name, title in {"nlu": "nlu, ner, joint", "sweep": "sweep", "nightly": "nightly"}.items():
        pipeline = make_pipeline(name, Environment.load("local"))
        lines += ["", f"## {title}", "", _sentence(pipeline.description), ""]
        lines += ["```mermaid", *diagram(pipeline.pipeline_spec), "```", ""]
        lines += ["| parameter | type | default | |", "|---|---|---|---|"]
        for parameter, each in pipeline.component_spec.inputs.items():
            default = f"`{json.dumps(each.default)}`" if each.optional else "required"
            lines.append(
                f"| `{parameter}` | {_type(each)} | {default} | {_cell(each.description)} |"
            )
    return _PIPELINES + "\n".join(lines) + "\n"


def diagram(spec: Any) -> list[str]:
    """Draw a pipeline as lines of Mermaid."""
    return ["flowchart TD", *_Drawing(spec).group(spec.root.dag, 1)[0]]


class _Drawing:
    """Draws nested groups; numbers boxes and frames in order."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        self.drawn = 0

    def group(self, dag: Any, depth: int) -> tuple[list[str], list[str]]:
        """Lines of a group, and the boxes and frames at its top level."""
        lines: list[str] = []
        shown: dict[str, list[str]] = {}
        for name in _sorted(dag.tasks):
            more, shown[name] = self.task(dag.tasks[name], depth)
            lines += more
        for name in shown:
            for before in _direct(dag.tasks, name):
                pairs = itertools.product(shown[before], shown[name])
                lines += [f"{'  ' * depth}{source} --> {target}" for source, target in pairs]
        return lines, list(itertools.chain(*shown.values()))

    def task(self, task: Any, depth: int) -> tuple[list[str], list[str]]:
        """Lines of a task, and the boxes or frames that arrows connect."""
        inner = self.spec.components[task.component_ref.name]
        name: str = task.task_info.name
        if name.startswith("condition-branches"):  # a group of both branches
            return self.group(inner.dag, depth)
        tasks = list(inner.dag.tasks.values())
        loop = task.WhichOneof("iterator")
        if len(tasks) == 1 and not loop and not self._is_group(tasks[0]):
            return self.task(tasks[0], depth)
        self.drawn += 1
        identifier, indent = f"n{self.drawn}", "  " * depth
        if not self._is_group(task):
            return [f'{indent}{identifier}["{name}"]'], [identifier]
        title = f"for each of the {name}" if loop else name.replace("-", " ")
        lines, _ = self.group(inner.dag, depth + 1)
        return [f'{indent}subgraph {identifier}["{title}"]', *lines, f"{indent}end"], [identifier]

    def _is_group(self, task: Any) -> bool:
        return bool(self.spec.components[task.component_ref.name].HasField("dag"))


def _sorted(tasks: Any) -> list[str]:
    """Names of tasks, each after its dependencies."""
    graph = {name: sorted(tasks[name].dependent_tasks) for name in sorted(tasks)}
    return list(TopologicalSorter(graph).static_order())


def _direct(tasks: Any, name: str) -> list[str]:
    """Dependencies of a task, without the dependencies of these."""

    def all_before(name: str) -> set[str]:
        before = set(tasks[name].dependent_tasks)
        return before.union(*map(all_before, before))

    before = set(tasks[name].dependent_tasks)
    return sorted(before - set().union(*map(all_before, before)))


def _description(component: BaseComponent) -> Iterator[str]:
    text = docstring_parser.parse(component.python_func.__doc__)
    meanings = {each.arg_name: each.description for each in text.params}
    if text.returns:
        meanings["Output"] = text.returns.description
    yield _summary(component)
    if text.long_description:
        yield from ("", text.long_description)
    yield from ("", "| | name | type | |", "|---|---|---|---|")
    spec = component.component_spec
    for direction, group in (("in", spec.inputs), ("out", spec.outputs)):
        for name, each in (group or {}).items():
            yield f"| {direction} | `{name}` | {_type(each)} | {_cell(meanings[name])} |"


def _summary(component: BaseComponent) -> str:
    text = docstring_parser.parse(component.python_func.__doc__)
    return _sentence(text.short_description or "")


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _type(each: Any) -> str:
    """Type of an input or output, as KFP names it, such as `Dict` or `Model`."""
    name: str = each.type.removeprefix("system.").partition("@")[0]
    return f"list of {name}" if each.is_artifact_list else name


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
