"""Arguments and options that are local paths."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

from typer import Typer
from typer.models import ParameterInfo

from saarthi_lib.addresses import local_path


def refuse_addresses(app: Typer) -> None:
    """Let every `Path` of the commands refuse addresses such as `s3://bucket/folder`.

    Otherwise `Path` would turn them into local folders. Commands that take addresses declare `str`.
    """
    for command in app.registered_commands:
        hints = get_type_hints(command.callback, include_extras=True)
        for name, hint in hints.items():
            kind, *infos = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            if Path in (kind, *get_args(kind)):
                for info in infos:
                    if isinstance(info, ParameterInfo) and info.parser is None:
                        info.parser = _parser(name)
    for group in app.registered_groups:
        if group.typer_instance:
            refuse_addresses(group.typer_instance)


def _parser(name: str) -> Callable[[str], Path]:
    def path(text: str) -> Path:  # its name is the value's in the help
        return local_path(text, name)

    return path
