"""Submit the pipeline to a cluster through the standard KFP client."""

import tempfile
from pathlib import Path

from pipelines.compile import compile_pipelines
from pipelines.local import pipeline_arguments
from saarthi_lib.config import TrainConfig, require
from saarthi_lib.errors import SaarthiError


def submit_pipeline(
    config: TrainConfig, host: str, experiment: str, env: str, wait: bool
) -> tuple[str, str | None]:
    """Compile for an environment, create the experiment and the run, and perhaps wait for its end.

    Returns:
        The run's id, and its final state when it was waited for.

    Raises:
        SaarthiError: the API at `host` cannot be reached or refuses the run.
    """
    require(config, "input_path")
    import kfp
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    with tempfile.TemporaryDirectory() as folder:
        (package,) = compile_pipelines(Path(folder), env)
        try:
            client = kfp.Client(host=host)
            run = client.create_run_from_pipeline_package(
                str(package), arguments=pipeline_arguments(config), experiment_name=experiment
            )
            if not wait:
                return run.run_id, None
            finished = client.wait_for_run_completion(run.run_id, timeout=7 * 24 * 3600)
            return run.run_id, str(finished.state)
        except (HTTPError, ApiException, ValueError) as error:
            raise SaarthiError(f"{host}: the KFP API did not take the run: {error}") from error
