"""Components pass each step the sections of the configuration that it reads."""

import inspect
import re
from typing import Any

import pytest
from kfp.dsl.python_component import PythonComponent

from pipelines.compile import all_components
from saarthi_lib import steps
from saarthi_lib.config import TrainConfig

CALLS = {
    component.name: (component, name)
    for component in all_components().values()
    if isinstance(component, PythonComponent)
    for name in re.findall(r"steps\.(\w+)\(\s*config", inspect.getsource(component.python_func))
}


def test_most_components_call_a_step() -> None:
    assert len(CALLS) >= 9


@pytest.mark.parametrize("component", CALLS)
def test_component_passes_the_sections_of_its_step(component: str) -> None:
    called, name = CALLS[component]
    passed = {key.removesuffix("_config") for key in called.component_spec.inputs}
    assert set(getattr(steps, name).sections) <= passed


def test_step_cannot_read_an_undeclared_section() -> None:
    narrow: Any = TrainConfig(normalization="none", bundle_name="bot").only("run", "delivery")
    assert (narrow.task, narrow.name) == ("intent_classification", "bot")
    with pytest.raises(AttributeError, match="normalization"):
        _ = narrow.normalization
