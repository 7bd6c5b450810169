"""Pages of the reference, written from the code by `make generated`; a test compares them."""

import re
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
import typer.cli
import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from predictors.settings import PREFIX, Settings
from saarthi_lib import cli
from saarthi_lib.config import SECTIONS
from saarthi_lib.recipe import RESOLVED

NOTE = "Written by `make generated` from the code; a test fails when this page is out of date."


def configuration() -> str:
    """Page of the training configuration, with a table for each section."""
    parts = [
        "# Configuration",
        "A flat YAML file, read by `saarthi train` and by the pipeline; `--set field=value` "
        "overrides a field. An unknown field is an error that suggests the nearest name. "
        "A section names the first step that reads its fields. After a change of a field, this "
        "step and later ones are rerun.",
        NOTE,
    ]
    for name, section in SECTIONS.items():
        parts += [f"## {name.capitalize()}", section.__doc__ or "", table(section)]
    return "\n\n".join(parts) + "\n"


def server() -> str:
    """Page of the server's settings."""
    parts = [
        "# Server",
        "Each setting is an option of `saarthi serve` and `python -m predictors` "
        f"(`--http-port 80`) and an environment variable (`{PREFIX}HTTP_PORT=80`); the option "
        "overrides the variable.",
        NOTE,
        table(Settings),
    ]
    return "\n\n".join(parts) + "\n"


def command_line() -> str:
    """Page of all commands, written by Typer."""
    command: Any = typer.main.get_command(cli.app)
    context = typer.Context(command, info_name="saarthi")
    text = typer.cli.get_docs_for_click(obj=command, ctx=context, name="saarthi")
    # A page has one first-level heading. Docstrings have one example per line.
    text = text.replace("# `saarthi`", f"# Command line\n\n{NOTE}", 1)
    text = re.sub(r"^ {2,}(saarthi .*|curl .*)$", r"    \1", text, flags=re.MULTILINE)
    return text.strip() + "\n"


def table(model: type[BaseModel]) -> str:
    """Table of the fields of a pydantic model."""
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        value = f"by the recipe; classic: {default(field)}" if name in RESOLVED else default(field)
        meaning = " ".join((field.description or "").split())
        row = (cell.replace("|", "\\|") for cell in (name, kind(field), value, meaning))
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def kind(field: FieldInfo) -> str:
    """Type and bounds of a field."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(bound, key)}"
        for bound in field.metadata
        for key, sign in signs.items()
        if getattr(bound, key, None) is not None
    ]
    return " ".join([named(field.annotation), *([", ".join(bounds)] if bounds else [])])


def named(annotation: Any) -> str:
    """Readable name of a type."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return named(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(map(named, inner))
    if origin in (list, tuple):
        return f"list of {named(inner[0])}"
    return "`null`" if annotation is type(None) else f"`{annotation.__name__}`"


def default(field: FieldInfo) -> str:
    """Default of a field, as YAML."""
    if field.is_required():
        return "required"
    if field.default_factory is not None or isinstance(field.default, SecretStr):
        return ""
    # YAML on one line.
    value = yaml.safe_dump(field.default, default_flow_style=True, width=1000).split("\n")[0]
    return "" if field.default == "" else f"`{value}`"
