"""Demonstration data sets, expanded or copied from packages."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from saarthi_lib.demo.home_assistant import write_home_assistant
from saarthi_lib.demo.porttinari import write_porttinari


class Demo(NamedTuple):
    """A demonstration: its default task, and the function that writes an input folder."""

    task: str
    write: Callable[[Path, int], object]


DEMOS = {
    "demo:home-assistant": Demo(
        "intent_classification", lambda folder, seed: write_home_assistant(folder, seed=seed)
    ),
    "demo:porttinari": Demo("pos", write_porttinari),
}
