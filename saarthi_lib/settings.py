"""Settings as users write them: YAML files, `field=value` options, and their combination."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from saarthi_lib.errors import ConfigError
from saarthi_lib.layout import current_names
from saarthi_lib.recipe import PRESET_FIELDS


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file cannot be read or is not a mapping of fields.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; give a YAML configuration") from None
    except IsADirectoryError:
        raise ConfigError(
            f"{path}: is a folder; give a YAML configuration. For a data folder, write one with: "
            f"saarthi init {shlex.quote(str(path))}"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of fields, such as 'task: ner'")
    return current_names(content, str(path))


def read_settings(pairs: Iterable[str], option: str = "--set") -> dict[str, Any]:
    """Read `field=value` pairs. Values are YAML, so `3` is a number and `null` is None.

    Args:
        pairs: values of the option.
        option: name of the option in errors.

    Raises:
        ConfigError: a pair is not `field=value`, or its value is not YAML.
    """
    settings = {}
    for pair in pairs:
        field, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"{option} {pair}: must be of the form field=value")
        try:
            settings[field.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{option} {pair}: the value is not YAML: {error}") from error
    return current_names(settings, option)


def read_over(pairs: Iterable[str]) -> dict[str, list[Any]]:
    """Read `field=value,value` pairs with YAML values, such as numbers, null and [6, 7].

    Raises:
        ConfigError: a pair is not `field=value,value`.
    """
    over: dict[str, list[Any]] = {}
    for pair in pairs:
        field, _, values = pair.partition("=")
        try:
            over |= read_settings([f"{field}=[{values}]"], "--over")
        except ConfigError:
            values = ""
        if not values.strip():
            raise ConfigError(f"--over {pair}: must be of the form field=value,value")
    return over


def overridden(fields: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Override fields; an overriding preset resets its fields."""
    if overrides.get("student_preset") is not None:
        fields = {name: value for name, value in fields.items() if name not in PRESET_FIELDS}
    return {**fields, **overrides}
