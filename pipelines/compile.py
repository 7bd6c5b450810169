"""Compile pipelines and components to YAML that any KFP client can upload."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from kfp import compiler
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.graph_component import GraphComponent

from pipelines.resources import ENVIRONMENTS, Environment
from pipelines.sweep import sweep_pipeline
from pipelines.train_and_deploy import TASKS, train_and_deploy_pipeline
from saarthi_lib.errors import ConfigError
from saarthi_lib.storage import whole_file

PIPELINES: dict[str, Callable[[Environment], GraphComponent]] = {
    **{name: partial(train_and_deploy_pipeline, name) for name in TASKS},
    "sweep": sweep_pipeline,
}


def make_pipeline(name: str, environment: Environment) -> GraphComponent:
    """Build a pipeline with the settings of an environment.

    Raises:
        ConfigError: the pipeline is unknown.
    """
    if name not in PIPELINES:
        raise ConfigError(f"pipeline '{name}' is unknown; use one of {', '.join(PIPELINES)}")
    return PIPELINES[name](environment)


def all_components() -> dict[str, BaseComponent]:
    """All components by name."""
    root = Path(__file__).parent.parent / "components"
    names = sorted(path.parent.name for path in root.glob("*/component.py"))
    return {name: getattr(import_module(f"components.{name}.component"), name) for name in names}


def compile_to(component: BaseComponent, target: Path) -> Path:
    """Compile a pipeline or a component to a YAML file."""
    with whole_file(target) as aside:
        # The compiler chooses the format by the extension.
        draft = aside.with_suffix(".yaml")
        compiler.Compiler().compile(component, str(draft))
        draft.rename(aside)
    return target


def compile_pipelines(folder: Path, environments: Sequence[str] = ENVIRONMENTS) -> list[Path]:
    """Compile all pipelines for some environments, and all components; returns the files.

    Raises:
        ConfigError: an environment is unknown, or its settings are wrong.
    """
    components: dict[Path, BaseComponent] = {
        folder / f"{name}-{environment.name}.yaml": make_pipeline(name, environment)
        for environment in map(Environment.load, environments)
        for name in PIPELINES
    }
    for name, component in all_components().items():
        components[folder / "components" / f"{name}.yaml"] = component
    return [compile_to(component, target) for target, component in components.items()]
