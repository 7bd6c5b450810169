"""Upload a pipeline to a cluster and run it there, through the standard KFP client."""

import contextlib
import io
import json
import os
import re
import ssl
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib import __version__
from saarthi_lib.config import TrainConfig, require
from saarthi_lib.data.detect import with_task
from saarthi_lib.errors import ConfigError, SaarthiError
from saarthi_lib.storage import digest_file

if TYPE_CHECKING:
    import kfp

    from pipelines.resources import Environment

Show = Callable[[str], None]

POLL_SECONDS = 5.0
PATIENCE = 6  # failed requests in a row after which the wait for a run ends
OLDEST = (2, 15)  # KFP
IMAGE_VARIABLE = "SAARTHI_TRAIN_IMAGE"
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")


@dataclass(frozen=True)
class Submission:
    """A pipeline run to submit.

    Attributes:
        config: the whole configuration.
        host: address of the KFP API; None: the default of KFP's client.
        pipeline: name of the pipeline; None: the one that suits the task.
        parameters: parameters of the pipeline, in addition to the configuration.
        environment: `dev`, `prod`, or a YAML file.
        image: image of all tasks; None: the environment's, or that of SAARTHI_TRAIN_IMAGE.
        cached: whether tasks may reuse results of earlier runs.
        experiment: experiment of the run; created if missing.
        run_name: name of the run; None: pipeline and time.
        cron: schedule of a recurring run, in KFP's six fields; None: run once, now.
        namespace: namespace in a multi-user KFP.
        token: a bearer token.
        cookies: value of the header Cookie, for a login in front of the API.
        ca: file with the certificates that sign the API's certificate.
    """

    config: TrainConfig
    host: str | None = None
    pipeline: str | None = None
    parameters: dict[str, Any] | None = None
    environment: str = "dev"
    image: str | None = None
    cached: bool = True
    experiment: str = "saarthi"
    run_name: str | None = None
    cron: str | None = None
    namespace: str | None = None
    token: str | None = None
    cookies: str | None = None
    ca: Path | None = None


def submit_pipeline(submission: Submission, wait_seconds: float | None, show: Show) -> bool:
    """Upload the pipeline's version, create the experiment and the run, and optionally wait.

    Args:
        submission: the run to submit.
        wait_seconds: most seconds to wait for the run to end; None: do not wait.
        show: called with one line for each created object and each change of state.

    Returns:
        Whether the submission, and the run if waited for, succeeded.

    Raises:
        ConfigError: the configuration or the environment is wrong, or no image is given.
        SaarthiError: the API cannot be reached, refuses, or is of an older version.
    """
    from pipelines.compile import compile_to, make_pipeline
    from pipelines.parameters import pipeline_for, run_parameters

    require(submission.config, "input_path")
    if submission.config.start_from:
        raise ConfigError(
            f"start_from: {submission.config.start_from}: the pods of a cluster cannot read this "
            "folder; use saarthi train, or saarthi pipeline run"
        )
    config = with_task(submission.config)
    environment = _environment(submission)
    name = submission.pipeline or pipeline_for(config)
    pipeline = make_pipeline(name, environment)
    parameters = run_parameters(pipeline, config, submission.parameters or {})
    if parameters.get("predictor") and not environment.service_account:
        show(
            "predictor: KFP's own account may not roll out; apply manifests/pipeline, and set "
            "service_account: saarthi-pipeline in the environment, unless yours is allowed to"
        )
    with tempfile.TemporaryDirectory() as folder, _explained(submission):
        package = compile_to(pipeline, Path(folder) / f"{name}.yaml")
        client = _client(submission, needed_version(environment))
        version = _upload(client, package, pipeline.name, environment.name, submission.namespace)
        show(f"pipeline {pipeline.name}, version {version.display_name}")
        with _quiet():
            experiment = client.create_experiment(
                submission.experiment, namespace=submission.namespace
            )
        run: dict[str, Any] = {
            "experiment_id": experiment.experiment_id,
            "job_name": submission.run_name or f"{name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
            "params": parameters,
            "pipeline_id": version.pipeline_id,
            "version_id": version.pipeline_version_id,
            "pipeline_root": environment.object_store,
            "service_account": environment.service_account,
        }
        run_id = _start(client, run, submission.cron, show)
    if submission.cron or wait_seconds is None:
        return True
    return _wait(submission, client, run_id, wait_seconds, show)


def _start(client: "kfp.Client", run: dict[str, Any], cron: str | None, show: Show) -> str:
    """Create a run, or a recurring run; returns its id."""
    page = f"{client._get_url_prefix()}/#"
    if cron:
        number: str = client.create_recurring_run(
            **run, cron_expression=cron, max_concurrency=1, no_catchup=True
        ).recurring_run_id
        show(f"recurring run {number}: {page}/recurringrun/details/{number}")
        return number
    with _quiet():
        run_id: str = client.run_pipeline(**run).run_id
    show(f"run {run_id}: {page}/runs/details/{run_id}")
    return run_id


def _environment(submission: Submission) -> "Environment":
    from pipelines.resources import Environment

    # None leaves the field of the file.
    given = {
        "image": submission.image or os.environ.get(IMAGE_VARIABLE),
        "cached": submission.cached,
    }
    changes = {name: value for name, value in given.items() if value not in (None, "", True)}
    environment = Environment.load(submission.environment, **changes)
    if environment.image is None:
        raise ConfigError(
            f"no image for the tasks: build it (make images IMAGES=train), push it to a registry "
            f"that the cluster can read (docker tag saarthi/train:{__version__} "
            f"REGISTRY/saarthi/train:{__version__}, docker push …), and name it by --image, by the "
            f"variable {IMAGE_VARIABLE}, or in the environment's file (image:)"
        )
    return environment


def _client(submission: Submission, needed: tuple[int, int]) -> "kfp.Client":
    import logging

    import kfp
    from kfp_server_api import ApiClient, Configuration

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # hide its retries from the user
    host = submission.host or os.environ.get("KF_PIPELINES_ENDPOINT")
    if submission.ca:
        _check_certificates(submission.ca)
    if host:
        # KFP's client would retry five times, and hide the reason of a refusal.
        configuration = Configuration(host=host.rstrip("/"))
        configuration.ssl_ca_cert = submission.ca and str(submission.ca)
        if submission.token:
            configuration.api_key["authorization"] = submission.token
            configuration.api_key_prefix["authorization"] = "Bearer"
        _check_version(ApiClient(configuration, cookie=submission.cookies), needed)
    given = {
        "namespace": submission.namespace,
        "cookies": submission.cookies,
        "ssl_ca_cert": submission.ca and str(submission.ca),
    }
    with _quiet():
        client = kfp.Client(
            host=host,
            existing_token=submission.token,
            **{name: value for name, value in given.items() if value},
        )
    if not host:
        _check_version(client._healthz_api.api_client, needed)
    return client


def _check_certificates(file: Path) -> None:
    try:
        ssl.create_default_context(cafile=str(file))
    except FileNotFoundError:
        raise ConfigError(f"--ca {file}: no such file") from None
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"--ca {file}: is no file of PEM certificates ({error})") from error


def needed_version(environment: "Environment") -> tuple[int, int]:
    """Oldest version of KFP with all features of the compiled pipelines.

    Collected results of a loop and the final status of a run need 2.14, optional keys of secrets
    2.15; a run's deadline and the deletion of its pods 2.17.
    """
    return (2, 17) if environment.deadline_hours or environment.keep_days else OLDEST


def _check_version(api: Any, needed: tuple[int, int]) -> None:
    """Refuse an older KFP; builds without a version are accepted."""
    health = api.call_api(
        "/apis/v2beta1/healthz",
        "GET",
        header_params={"Accept": "application/json"},
        response_type="object",
        auth_settings=["Bearer"],
        _return_http_data_only=True,
    )
    tag = health.get("tag_name") if isinstance(health, dict) else None
    found = re.match(r"v?(\d+)\.(\d+)", str(tag))
    if found and (int(found[1]), int(found[2])) < needed:
        raise SaarthiError(
            f"the cluster has Kubeflow Pipelines {tag}; this run needs "
            f"{needed[0]}.{needed[1]} or newer: upgrade it"
        )


def _upload(
    client: "kfp.Client", package: Path, name: str, environment: str, namespace: str | None
) -> Any:
    """Reuse the version with this content, or upload a new one."""
    version = f"{__version__}-{environment}-{digest_file(package)[:12]}"
    pipeline_id = _pipeline_id(client, name, namespace)
    with _quiet():
        if pipeline_id is None:
            pipeline = client.upload_pipeline(str(package), pipeline_name=name, namespace=namespace)
            return next(_versions(client, pipeline.pipeline_id))
        for each in _versions(client, pipeline_id):
            if each.display_name == version:
                return each
        return client.upload_pipeline_version(
            str(package), pipeline_version_name=version, pipeline_id=pipeline_id
        )


def _pipeline_id(client: "kfp.Client", name: str, namespace: str | None) -> str | None:
    """ID of a pipeline; the client's own search does not find those of a namespace."""
    wanted = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    found = client.list_pipelines(filter=json.dumps({"predicates": [wanted]}), namespace=namespace)
    return next((str(each.pipeline_id) for each in found.pipelines or []), None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the output and warnings of KFP's client; `show` reports created objects."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _versions(client: "kfp.Client", pipeline_id: str) -> Iterator[Any]:
    token = ""
    while True:
        page = client.list_pipeline_versions(pipeline_id, page_token=token, page_size=100)
        yield from page.pipeline_versions or []
        token = page.next_page_token or ""
        if not token:
            return


def _wait(
    submission: Submission, client: "kfp.Client", run_id: str, seconds: float, show: Show
) -> bool:
    """Wait for the run and show each change of a task's state; returns whether it succeeded."""
    end = time.monotonic() + seconds
    shown: dict[str, str] = {}
    failures = 0
    while True:
        try:
            with _explained(submission):
                run = client.get_run(run_id)
        except _UnavailableError:
            failures += 1
            if failures == PATIENCE:
                raise
            time.sleep(POLL_SECONDS)
            continue
        failures = 0
        for task in (run.run_details and run.run_details.task_details) or []:
            if task.state and shown.get(task.task_id) != task.state:
                shown[task.task_id] = task.state
                show(f"{task.display_name}: {_state(task)}")
        if run.state in ENDED:
            show(f"run {run_id}: {_state(run)}")
            return bool(run.state == "SUCCEEDED")
        if time.monotonic() >= end:
            raise SaarthiError(
                f"run {run_id}: is {run.state} after {seconds / 60:.0f} minutes; the run continues "
                "(--timeout sets the waiting time)"
            )
        time.sleep(POLL_SECONDS)


def _state(run: Any) -> str:
    """State of a run or a task, with its error if it has one."""
    message = run.error and run.error.message
    return f"{run.state}: {message}" if message else str(run.state)


@contextlib.contextmanager
def _explained(submission: Submission) -> Iterator[None]:
    """Turn the client's errors into errors with the host, the response and advice."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    host = submission.host or "the KFP API"
    try:
        yield
    except ApiException as error:
        message = f"{host}: {error.status} {error.reason}"
        if error.status in (401, 403):
            raise SaarthiError(
                f"{message}; log in, and set the variable SAARTHI_KFP_TOKEN to a token, or "
                "SAARTHI_KFP_COOKIE to the cookies of a session (name=value)"
            ) from error
        kind = _UnavailableError if error.status and error.status >= 500 else SaarthiError
        raise kind(f"{message} {_message(error)}".strip()) from error
    except (HTTPError, OSError, TimeoutError) as error:
        raise _UnavailableError(
            f"{host}: the KFP API does not answer ({error}); check the address and the port-forward"
        ) from error


class _UnavailableError(SaarthiError):
    """The API does not answer, or fails; a retry may succeed."""


def _message(error: Any) -> str:
    """Message of the API's error."""
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, TypeError, KeyError):
        return str(error.body or "")[:300]
