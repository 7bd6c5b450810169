"""Saarthi: labelled text in, a tiny and fast language-understanding service out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from saarthi_lib.inference.predictor import Predictor, init, run
    from saarthi_lib.runs.train import train

__all__ = ["Predictor", "__version__", "init", "run", "train"]

# Resolved on first use: importing `saarthi_lib` costs nothing, and a predictor never imports
# what only training needs.
_LAZY = {
    "Predictor": "saarthi_lib.inference.predictor",
    "init": "saarthi_lib.inference.predictor",
    "run": "saarthi_lib.inference.predictor",
    "train": "saarthi_lib.runs.train",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'saarthi_lib' has no attribute {name!r}")
