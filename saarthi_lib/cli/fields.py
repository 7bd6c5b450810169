"""`saarthi fields`: the fields of the configuration."""

from typing import Annotated, Any

from typer import Argument

from saarthi_lib.cli.console import JsonOption, plain, say, say_json
from saarthi_lib.errors import InputError


def fields(
    name: Annotated[
        str | None, Argument(help="A field, a section, or a word in them.", metavar="NAME")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """List the fields of the configuration, with type, default and meaning.

    Examples:

      saarthi fields

      saarthi fields label_column

      saarthi fields abstention --json
    """
    found = _matching(_all_fields(), name)
    if json_:
        say_json(found)
        return
    section = ""
    for each in found:
        if each["section"] != section:
            section = each["section"]
            say(f"[bold]{section}[/]")
        say(f"  [bold cyan]{each['name']}[/]: {plain(each['type'])}; default: {_default(each)}")
        say(f"      {plain(each['meaning'])}")


def _all_fields() -> list[dict[str, Any]]:
    from saarthi_lib.config import SECTIONS
    from saarthi_lib.config.choices import type_in_words
    from saarthi_lib.recipe import RESOLVED

    return [
        {
            "name": name,
            "section": section,
            "type": type_in_words(field.annotation),
            "default": field.default,
            "by_recipe": name in RESOLVED,
            "meaning": field.description,
        }
        for section, fields in SECTIONS.items()
        for name, field in fields.model_fields.items()
    ]


def _default(field: dict[str, Any]) -> str:
    value = field["default"]
    shown = {"True": "true", "False": "false", "None": "null", "": "empty"}.get(str(value))
    by_recipe = ", or by the recipe" if field["by_recipe"] else ""
    return plain(f"{shown or value}{by_recipe}")


def _matching(every: list[dict[str, Any]], name: str | None) -> list[dict[str, Any]]:
    """Fields with a name, of a section, or with a word in name or meaning, in this order.

    Raises:
        InputError: no field fits; the message suggests the nearest name.
    """
    from saarthi_lib.config.choices import nearest_field

    if name is None:
        return every
    word = name.strip().lower().replace("-", "_")
    for fits in (
        lambda field: field["name"] == word,
        lambda field: field["section"] == word,
        lambda field: word in field["name"],
        lambda field: name.strip().lower() in field["meaning"].lower(),
    ):
        if found := [field for field in every if fits(field)]:
            return found
    near = nearest_field(word)
    hint = f"did you mean {near}?" if near else "saarthi fields lists all fields"
    raise InputError(f"no field is called '{name}'; {hint}")
