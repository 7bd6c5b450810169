"""The training configuration: a flat mapping of fields, with defaults and checks.

Fields are grouped into sections by the steps that read them. A step (and a pipeline task) depends
only on its own sections and its inputs, so a new student size does not make a teacher stale.
"""

import difflib
import re
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Self, cast

import yaml
from pydantic import ValidationError, ValidationInfo, field_validator, model_validator

from saarthi_lib.config.choices import is_list, is_number, nearest_choice, nearest_field
from saarthi_lib.config.sections import (
    DEFAULT_LAYER,
    NOT_IN_ARTIFACTS,
    SECTIONS,
    TEXT_FIELDS,
    AugmentationMethod,
    DataSection,
    DeliverySection,
    RunSection,
    Section,
    StudentSection,
    TeacherSection,
)
from saarthi_lib.errors import ConfigError
from saarthi_lib.layout import REMOVED, current_names
from saarthi_lib.settings import overridden, read_yaml
from saarthi_lib.tasks import has_token_head
from saarthi_lib.text.language_names import NAMED_LANGUAGES, is_language

__all__ = [
    "DEFAULT_LAYER",
    "NOT_IN_ARTIFACTS",
    "SECTIONS",
    "TRIAL",
    "AugmentationMethod",
    "RunSection",
    "TrainConfig",
    "require",
]

# Shown with every result of a run with `fast_dev_run`.
TRIAL = (
    "trial run: its numbers mean nothing, since it trains for one epoch on a few rows; for a real "
    "run set fast_dev_run: false"
)


class TrainConfig(RunSection, DataSection, TeacherSection, StudentSection, DeliverySection):
    """The whole configuration; create it with `from_mapping` or `from_yaml`."""

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, values: Any) -> Any:
        """Accept null for not given, whole numbers as texts, and one text for a list of texts."""
        if not isinstance(values, dict):
            return values
        texts = {name for name, field in cls.model_fields.items() if field.annotation is str}
        read = dict(values)
        for name, value in values.items():
            if type(value) is int and (name in texts or name == "precision"):
                read[name] = str(value)
            elif isinstance(value, str) and name in TEXT_FIELDS and is_list(name):
                read[name] = [part for part in re.split(r"\s*[,;]\s*", value.strip()) if part]
            elif value is None and (name in texts or name == "student_preset"):
                del read[name]
        return read

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse yes and no for a number, which pydantic reads as 1 and 0."""
        if isinstance(value, bool) and is_number(info.field_name or ""):
            raise ValueError("must be a number, not yes or no")
        return value

    @field_validator("languages")
    @classmethod
    def _languages_are_known(cls, value: list[str]) -> list[str]:
        for name in value:
            if not is_language(name):
                near = difflib.get_close_matches(name.lower(), sorted(NAMED_LANGUAGES))
                hint = f"did you mean {' or '.join(near)}?" if near else "give its English name"
                raise ValueError(f"'{name}' is not a known language; {hint}")
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.teacher_output_folder.casefold() == self.student_output_folder.casefold():
            raise ValueError("teacher_output_folder and student_output_folder must differ")
        adaptive, weighted = self.self_adaptive_training, self.reweighting != "none"
        if adaptive and weighted:
            raise ValueError("self_adaptive_training and reweighting exclude each other")
        if adaptive and self.task in ("ner", "pos"):
            raise ValueError(f"self_adaptive_training: {self.task} has no labels of texts")
        if (adaptive or weighted) and self.distillation_schedule == "joint":
            raise ValueError(
                "self_adaptive_training and reweighting need a phase with labels alone, which "
                "distillation_schedule: joint does not have; choose another schedule"
            )
        if self.teacher_ensemble > 1 and (self.torchscript or not self.distillation):
            raise ValueError(
                "teacher_ensemble: several teachers can be distilled but not delivered; set "
                "teacher_ensemble: 1, or distillation: true and torchscript: false"
            )
        return self

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], source: str = "configuration") -> Self:
        """Check a mapping of fields.

        Args:
            content: field names and values.
            source: name of the mapping in errors, such as the file name.

        Raises:
            ConfigError: fields are unknown or wrong; the message lists them all, and suggests the
                nearest name for an unknown field.
        """
        fields = current_names(content, source)
        _refuse_removed(fields, source)
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            lines = [_message_of(problem) for problem in error.errors()]
            raise ConfigError(f"{source}: " + "; ".join(lines)) from None

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """Read a YAML file; `overrides` take precedence. Relative paths stay relative.

        Raises:
            ConfigError: the file cannot be read, is not a mapping, or a field is wrong.
        """
        return cls.from_mapping(overridden(read_yaml(path), overrides or {}), str(path))

    def to_yaml(self, path: str | Path) -> None:
        """Write the fields that were given or resolved to a YAML file."""
        Path(path).write_text(self.as_yaml(), encoding="utf-8")

    def as_yaml(self) -> str:
        """The fields that were given or resolved, as YAML."""
        return yaml.safe_dump(self.given(*SECTIONS), sort_keys=False, allow_unicode=True)

    def only(self, *sections: str) -> "TrainConfig":
        """Return only the named sections; access to other fields raises an AttributeError."""
        narrowed = _narrowed(sections)(**self.given(*sections)).with_reasons(self.reasons)
        return cast(TrainConfig, narrowed)

    @property
    def layers_to_distil(self) -> list[int]:
        """Teacher layers whose hidden states the student learns.

        The default depends on the task: with tags, the default schedule has a stage for them.
        """
        layers = self.teacher_layer_to_distil
        if layers == DEFAULT_LAYER and not has_token_head(self.task):
            return []
        return layers if isinstance(layers, list) else [layers]

    @property
    def name(self) -> str:
        """Name of the served model."""
        return self.bundle_name or self.task.replace("_", "-")

    @property
    def version(self) -> str:
        """Version of the served model; publishing gives another one if none was given."""
        return self.bundle_version or "1"


@cache
def _narrowed(sections: tuple[str, ...]) -> type[Section]:
    """Model class with the fields of these sections and the properties of `TrainConfig`."""
    shared = {
        name: each
        for name, each in vars(TrainConfig).items()
        if isinstance(each, property) or name == "only"
    }
    bases = tuple(SECTIONS[name] for name in sections)
    return type("Config", bases, {"__module__": __name__, **shared})


def require(config: TrainConfig, *fields: str) -> None:
    """Check that fields without a usable default are set.

    Raises:
        ConfigError: a field is empty; the message names the first one.
    """
    for field in fields:
        if not getattr(config, field):
            description = type(config).model_fields[field].description
            raise ConfigError(f"{field} is missing: {description}")


def _refuse_removed(fields: Mapping[str, Any], source: str) -> None:
    """Refuse a removed field that is on; `current_names` drops one that is off."""
    if REMOVED in fields:
        raise ConfigError(
            f"{source}: {REMOVED} was removed, model.pt2 is no longer written; delete the field. "
            "Bundles have model.pt (TorchScript) and, with runtime: onnxruntime, model.onnx"
        )


def _message_of(problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"]) or "configuration"
    if problem["type"] == "extra_forbidden":
        near = nearest_field(field)
        hint = f"did you mean '{near}'?" if near else "'saarthi fields' lists all fields"
        return f"unknown field '{field}': {hint}"
    given = problem.get("input")
    if problem["type"] in ("string_type", "list_type") and _is_misread(given):
        text = str(given) if not isinstance(given, bool) else "yes" if given else "no"
        return f'{field}: YAML reads the value as {given!r}; quote it, such as {field}: "{text}"'
    meant = nearest_choice(field, given) if problem["type"] == "literal_error" else ""
    hint = f"; did you mean {meant}?" if meant else ""
    return f"{field}: {problem['msg']} (given: {given!r}){hint}"


def _is_misread(value: Any) -> bool:
    """Whether YAML has likely read a text as another type: no, 1.10, 2024-01-31."""
    return isinstance(value, bool | float | date)
