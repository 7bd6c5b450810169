"""A cluster to deploy to, and the command line that reaches it."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
from kubernetes.config import kube_config
from rich.console import Console

from deployment import commands, wait
from saarthi_lib import cli
from tests.deployment.api_server import ApiServer
from tests.deployment.controllers import Document
from tests.manifests.test_manifests import documents

STABLE, CANDIDATE = "gs://b/nlu/0.1.0", "gs://b/nlu/0.2.0"
NER = "gs://b/ner/0.1.0"


def overlay(mode: str, bundle: str = STABLE) -> list[Document]:
    """The objects of prod's overlay, with a bundle for `nlu`."""
    objects = documents(f"prod/{mode}")
    for each in objects:
        uri = bundle if each["metadata"]["name"] == "nlu" else NER
        if each["kind"] == "InferenceService":
            each["spec"]["predictor"]["model"]["storageUri"] = uri
        elif each["kind"] == "Deployment":
            container = each["spec"]["template"]["spec"]["containers"][0]
            container["args"][0] = f"{each['metadata']['name']}={uri}"
    order = ("ServingRuntime", "InferenceService")  # what a predictor uses comes first
    return sorted(
        objects, key=lambda each: order.index(each["kind"]) if each["kind"] in order else 0
    )


class Done(NamedTuple):
    """Output of a command."""

    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """The cluster of the kubeconfig; its state is polled without long pauses."""
    monkeypatch.setattr(wait, "POLL_SECONDS", 0.01)
    with ApiServer() as running:
        # The client read KUBECONFIG when it was imported: only a new process sees the variable.
        file = str(running.kubeconfig(tmp_path))
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", file)
        # The bundles on gs:// are not there: nothing listens at this port.
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
        yield running


@pytest.fixture
def saarthi(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; it must exit with `code`."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")  # main() sets it, and other tests must not see it
    for name, stderr in (("console", False), ("errors", True)):
        monkeypatch.setattr(commands, name, Console(stderr=stderr, highlight=False, width=200))

    def run(*arguments: object, code: int = 0, typed: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", ["saarthi", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exited:
            cli.main()
        done = Done(out.getvalue(), err.getvalue())
        assert (exited.value.code or 0) == code, done.stdout + done.stderr
        return done

    return run
