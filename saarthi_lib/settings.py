"""Settings as users write them: YAML files, `field=value` options, and their combination."""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from saarthi_lib.errors import ConfigError
from saarthi_lib.layout import current_names
from saarthi_lib.recipe import PRESET_FIELDS

_MISREAD = re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9_.]+(:[0-9_.]+)+")  # octal, and to the base of 60
_MERGE = "tag:yaml.org,2002:merge"
_KEPT_TAGS = ("tag:yaml.org,2002:null", _MERGE)
# Parameters of pipelines that are texts, besides the fields of the configuration.
_TEXT_PARAMETERS = frozenset({"publish_to", "predictor", "namespace", "prometheus"})


class _Loader(yaml.SafeLoader):
    """Reads YAML; a field that is given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See `yaml.SafeLoader`."""
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in names:
                    problem = f"the field '{key.value}' is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                names.add(key.value)
        return super().construct_mapping(node, deep)


class TextLoader(_Loader):
    """Reads the scalars of YAML as they are written, apart from null."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [each for each in resolvers if each[0] in _KEPT_TAGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping. Fields of text hold the text as it is written, such as no and 1.10.

    Raises:
        ConfigError: the file cannot be read or is not a mapping of fields.
    """
    try:
        content = _as_written(Path(path).read_text(encoding="utf-8"))
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

    Fields of text hold the text as it is written.

    Args:
        pairs: values of the option.
        option: name of the option in errors.

    Raises:
        ConfigError: a pair is not `field=value`, or its value is not YAML.
    """
    settings = {}
    for pair in pairs:
        field, equals, value = pair.partition("=")
        field = field.strip()
        if not equals:
            raise ConfigError(f"{option} {pair}: must be of the form field=value")
        try:
            settings[field] = _as_written(value, field)
        except yaml.YAMLError as error:
            if not _is_text(field):
                raise ConfigError(f"{option} {pair}: the value is not YAML: {error}") from error
            settings[field] = value.strip()
        if isinstance(settings[field], dict) and _is_text(field):
            settings[field] = value.strip()
    return current_names(settings, option)


def _as_written(text: str, field: str = "") -> Any:
    """Parse the YAML of a field, or of a mapping of fields.

    Raises:
        ConfigError: YAML reads a number in another way than people do.
        yaml.YAMLError: the text is not YAML.
    """
    return _texts_kept(yaml.load(text, _Loader), yaml.load(text, TextLoader), field)


def _texts_kept(value: Any, written: Any, field: str) -> Any:
    """The value, with the scalars in fields of text as they are written."""
    if isinstance(value, dict) and isinstance(written, dict):
        return {
            name: _texts_kept(each, written.get(name), str(name)) for name, each in value.items()
        }
    if isinstance(value, list) and isinstance(written, list):
        return [_texts_kept(*pair, field) for pair in zip(value, written, strict=True)]
    if not isinstance(written, str):
        return value
    if _is_text(field):
        return written
    if isinstance(value, int | float) and _MISREAD.fullmatch(written):
        raise ConfigError(f"{field}: YAML reads {written} as {value}; write the number plainly")
    return value


def _is_text(field: str) -> bool:
    from saarthi_lib.config.sections import TEXT_FIELDS  # imports this module

    present = next(iter(current_names({field: None})), field)
    return present in TEXT_FIELDS | _TEXT_PARAMETERS


def read_over(pairs: Iterable[str]) -> dict[str, list[Any]]:
    """Read `field=value,value` pairs with YAML values, such as numbers, null and [6, 7].

    Raises:
        ConfigError: a pair is not `field=value,value`.
    """
    over: dict[str, list[Any]] = {}
    for pair in pairs:
        field, _, values = pair.partition("=")
        try:
            over[field.strip()] = _as_written(f"[{values}]", field.strip())
        except yaml.YAMLError:
            values = ""
        if not values.strip():
            raise ConfigError(f"--over {pair}: must be of the form field=value,value")
    return current_names(over, "--over")


def overridden(fields: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Override fields; an overriding preset resets its fields."""
    if overrides.get("student_preset") is not None:
        fields = {name: value for name, value in fields.items() if name not in PRESET_FIELDS}
    return {**fields, **overrides}
