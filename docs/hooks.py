"""Generate the reference pages while the site is built, so that they match the code."""

import re
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
import typer.cli
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from predictors.settings import PREFIX, Settings
from saarthi_lib import cli
from saarthi_lib.config import SECTIONS
from saarthi_lib.recipe import RESOLVED

ROOT = Path(__file__).parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages; called by MkDocs."""
    pages = {
        "configuration.md": configuration(),
        "command-line.md": command_line(),
        "server.md": server(),
        "manifests.md": document("manifests/README.md"),
        "changelog.md": document("CHANGELOG.md"),
    }
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Show diagrams as outlines, without an external renderer; called by MkDocs."""
    return re.sub(r"^```mermaid\n(.*?)^```$", outline, markdown, flags=re.MULTILINE | re.DOTALL)


def outline(diagram: re.Match[str]) -> str:
    """Boxes and groups of a flow chart as a nested list, in their order."""
    lines, depth = [], 0
    for line in diagram[1].splitlines():
        box = re.fullmatch(r'(subgraph )?\w+\["(.+)"\]', line.strip())
        if box:
            name = f"**{box[2]}**" if box[1] else f"`{box[2]}`"
            lines.append(f"{'    ' * depth}- {name}")
        depth += bool(box and box[1]) - (line.strip() == "end")
    return "\n".join(lines)


def configuration() -> str:
    """The training configuration, a table for each section."""
    parts = [
        "# Configuration",
        "A flat YAML file, read by `saarthi train` and by the pipeline; `--set field=value` "
        "overrides a field. A field that does not exist is an error that suggests the nearest one. "
        "The sections below say which step reads a field first: changing it makes that step and "
        "those after it run again, and no other.",
    ]
    for name, section in SECTIONS.items():
        parts += [f"## {name.capitalize()}", section.__doc__ or "", table(section)]
    return "\n\n".join(parts) + "\n"


def server() -> str:
    """The server's settings."""
    return "\n\n".join(
        [
            "# Server",
            "Each setting is an option of `python -m predictors` (`--http-port 80`) and a variable "
            f"of the environment (`{PREFIX}HTTP_PORT=80`); the option wins. `saarthi serve` has "
            "the most used ones as options and reads the variables too.",
            table(Settings),
        ]
    )


def command_line() -> str:
    """Typer's own documentation of every command."""
    command: Any = typer.main.get_command(cli.app)
    context = typer.Context(command, info_name="saarthi")
    text = typer.cli.get_docs_for_click(obj=command, ctx=context, name="saarthi")
    # A page has one first-level heading. Docstrings have one example per line.
    text = text.replace("# `saarthi`", "# Command line", 1)
    return re.sub(r"^ {2,}(saarthi .*|curl .*)$", r"    \1", text, flags=re.MULTILINE)


def document(path: str) -> str:
    """A file of the repository; links to other files become plain names."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]+\)", r"`\1`", text)


def table(model: type[BaseModel]) -> str:
    """The fields of a pydantic model."""
    rows = [
        (
            name,
            kind(field),
            f"by the recipe; classic: {default(field)}" if name in RESOLVED else default(field),
            meaning(field),
        )
        for name, field in fields(model)
    ]
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(map(escape, row)) + " |" for row in rows]
    return "\n".join(lines)


def fields(model: type[BaseModel]) -> Iterable[tuple[str, FieldInfo]]:
    """Fields of a model, with their names."""
    return model.model_fields.items()


def kind(field: FieldInfo) -> str:
    """A field's type, and its bounds."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(bound, key)}"
        for bound in field.metadata
        for key, sign in signs.items()
        if getattr(bound, key, None) is not None
    ]
    return " ".join([named(field.annotation), *([", ".join(bounds)] if bounds else [])])


def named(annotation: Any) -> str:
    """A readable name of a type."""
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
        return "needed"
    if field.default_factory is not None or isinstance(field.default, SecretStr):
        return ""
    # YAML on one line.
    value = yaml.safe_dump(field.default, default_flow_style=True, width=1000).split("\n")[0]
    return "" if field.default == "" else f"`{value}`"


def meaning(field: FieldInfo) -> str:
    """Description of a field, on one line."""
    return " ".join((field.description or "").split())


def escape(cell: str) -> str:
    """Escape the bars in a cell."""
    return cell.replace("|", "\\|")
