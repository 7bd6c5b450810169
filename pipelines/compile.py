"""Compile the pipelines to the YAML that KFP's clients upload."""

from pathlib import Path

from saarthi_lib.errors import ConfigError
from saarthi_lib.storage import whole_file


def compile_pipelines(output: Path, env: str) -> list[Path]:
    """Compile every pipeline for an environment.

    Args:
        output: folder for `<pipeline>-<env>.yaml`.
        env: one of `ENVIRONMENTS`.

    Returns:
        The files.

    Raises:
        ConfigError: the environment is unknown.
    """
    from kfp import compiler

    from pipelines.distillation import distillation_pipeline
    from pipelines.resources import ENVIRONMENTS

    if env not in ENVIRONMENTS:
        raise ConfigError(f"environment '{env}' is unknown; use one of {', '.join(ENVIRONMENTS)}")
    target = output / f"distillation-{env}.yaml"
    with whole_file(target) as aside:
        # The compiler knows the format by the extension.
        draft = aside.with_suffix(".yaml")
        compiler.Compiler().compile(distillation_pipeline(env), str(draft))
        draft.rename(aside)
    return [target]
