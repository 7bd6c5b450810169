"""Pages about the components and the pipelines, made from what KFP is given: their specs."""

import inspect
import itertools
import json
from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import Any

import docstring_parser
from kfp.dsl.base_component import BaseComponent

from pipelines.compile import PIPELINES, all_components, make_pipeline
from pipelines.resources import Environment

# In the order of the way through; what is new stands at the end until it is given its place.
_ORDER = (
    "find_new_data", "digest_data", "preprocess_data", "train_teacher", "train_teacher_on_nodes",
    "test_teacher",
    "check_limits", "compute_teacher_signals", "distil_stage",
    "export_model", "quantize_model", "evaluate_models", "explain_predictions", "publish_bundle",
    "start_canary", "check_canary", "promote_canary", "compare_runs", "record_run", "stop_run",
    "report_run",
)  # fmt: skip
_TYPES = {"STRUCT": "dict", "LIST": "list", "STRING": "str", "NUMBER_INTEGER": "int",
          "NUMBER_DOUBLE": "float", "BOOLEAN": "bool"}  # fmt: skip


def component_page() -> str:
    """The page of all components, in Markdown."""
    found = all_components()
    order = [name for name in _ORDER if name in found]
    found = {name: found[name] for name in [*order, *sorted(set(found) - set(order))]}
    lines = [
        "# Components",
        "",
        "One container component a step, all on one image. Each does without our pipelines:",
        "",
        "```python",
        "from kfp.components import load_component_from_file",
        "",
        'train_teacher = load_component_from_file("build/components/train_teacher.yaml")',
        "```",
        "",
        "`saarthi pipeline compile --output build/` writes these files. What is known of an",
        "artifact (figures, digests, the run's number) stands in its metadata.",
        "",
        "Made by `make generated` from the components; a test fails when it is out of date.",
        "",
        *[f"- [{name}](#{name}): {_summary(each)}" for name, each in found.items()],
    ]
    for name, component in found.items():
        lines += ["", f"## {name}", "", *_description(component)]
    return "\n".join(lines) + "\n"


def pipeline_page() -> str:
    """The page of all pipelines, with a picture of each, in Markdown."""
    lines = [
        "# Pipelines",
        "",
        "A box is a container, a frame a group: a sub-pipeline, a loop, or what is run only when a",
        "gate lets it through. [components.md](components.md) says what each container does.",
        "",
        "Made by `make generated` from the compiled specs; a test fails when it is out of date.",
    ]
    local = Environment.load("local")
    shown = {"nlu": ", ner, joint", "sweep": "", "nightly": ""}
    for name in PIPELINES:
        if name not in shown:
            continue
        pipeline = make_pipeline(name, local)
        spec = pipeline.pipeline_spec
        lines += ["", f"## {name}{shown[name]}", "", _sentence(pipeline.description), ""]
        lines += ["```mermaid", *picture(spec), "```", ""]
        lines += ["| parameter | type | default | |", "|---|---|---|---|"]
        for parameter in inspect.signature(pipeline.pipeline_func).parameters:
            each = spec.root.input_definitions.parameters[parameter]
            default = _default(each)
            lines.append(
                f"| `{parameter}` | {_type(each)} | {default} | {_cell(each.description)} |"
            )
    return "\n".join(lines) + "\n"


def picture(spec: Any) -> list[str]:
    """A pipeline's graph as lines of Mermaid."""
    return ["flowchart TD", *_Drawing(spec).group(spec.root.dag, 1)[0]]


class _Drawing:
    """Draws groups within groups; boxes and frames are numbered as they come."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        self.drawn = 0

    def group(self, dag: Any, depth: int) -> tuple[list[str], list[str]]:
        """The lines of a group, and what stands at its top level."""
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
        """The lines of a task, and what the arrows to and from it are tied to."""
        inner = self.spec.components[task.component_ref.name]
        name: str = task.task_info.name
        if name.startswith("condition-branches"):  # a frame around two frames
            return self.group(inner.dag, depth)
        tasks = inner.dag.tasks
        if len(tasks) == 1 and not task.WhichOneof("iterator"):
            [only] = tasks.values()
            if not self.spec.components[only.component_ref.name].HasField("dag"):
                return self.task(only, depth)
        self.drawn += 1
        identifier, indent = f"n{self.drawn}", "  " * depth
        if not inner.HasField("dag"):
            return [f'{indent}{identifier}["{name}"]'], [identifier]
        title = f"for each of the {name}" if task.WhichOneof("iterator") else name
        lines, _ = self.group(inner.dag, depth + 1)
        start = f'{indent}subgraph {identifier}["{title.replace("-", " ")}"]'
        return [start, *lines, f"{indent}end"], [identifier]


def _sorted(tasks: Any) -> list[str]:
    """Names of tasks, each after what it waits for."""
    graph = {name: sorted(tasks[name].dependent_tasks) for name in sorted(tasks)}
    return list(TopologicalSorter(graph).static_order())


def _direct(tasks: Any, name: str) -> list[str]:
    """What a task waits for, without what those wait for themselves."""

    def behind(name: str) -> set[str]:
        near = set(tasks[name].dependent_tasks)
        return near.union(*map(behind, near))

    near = set(tasks[name].dependent_tasks)
    return sorted(near - set().union(*map(behind, near)))


def _description(component: BaseComponent) -> Iterator[str]:
    text = docstring_parser.parse(component.python_func.__doc__)
    said = {each.arg_name: each.description or "" for each in text.params}
    yield _sentence(_summary(component))
    if text.long_description:
        yield from ("", text.long_description)
    yield from ("", "| | name | type | |", "|---|---|---|---|")
    [spec] = component.pipeline_spec.components.values()
    names = [*inspect.signature(component.python_func).parameters, "Output"]
    for direction, group in (("in", spec.input_definitions), ("out", spec.output_definitions)):
        for name in names:
            if name in group.parameters:
                kind = _type(group.parameters[name])
            elif name in group.artifacts:
                artifact = group.artifacts[name]
                kind = artifact.artifact_type.schema_title.removeprefix("system.")
                kind = f"list of {kind}" if artifact.is_artifact_list else kind
            else:
                continue
            # What a component returns has no name of its own.
            meaning = said.get(name) or (text.returns and text.returns.description) or ""
            yield f"| {direction} | `{name}` | {kind} | {_cell(meaning)} |"


def _summary(component: BaseComponent) -> str:
    text = docstring_parser.parse(component.python_func.__doc__)
    return _sentence(text.short_description or "")


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _type(parameter: Any) -> str:
    name = (
        parameter.DESCRIPTOR.fields_by_name["parameter_type"]
        .enum_type.values_by_number[parameter.parameter_type]
        .name
    )
    return _TYPES.get(name, name.lower())


def _default(parameter: Any) -> str:
    from google.protobuf import json_format

    if not parameter.is_optional:
        return "required"
    value = json_format.MessageToDict(parameter.default_value)
    whole = isinstance(value, float) and value.is_integer()
    return f"`{json.dumps(int(value) if whole else value)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
