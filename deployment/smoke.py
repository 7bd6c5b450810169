"""Smoke tests: real utterances for a predictor that was just rolled out."""

import ipaddress
import json
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment.cluster import Cluster
from deployment.http import ask
from deployment.state import Mode, Predictor
from saarthi_lib.errors import SaarthiError


@dataclass(frozen=True)
class Utterance:
    """A text and its expected label; None accepts any label."""

    text: str
    label: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Outcome of an utterance.

    Attributes:
        utterance: the utterance.
        passed: whether the predictor gave the expected answer.
        said: the answer, or the error, in one line.
    """

    utterance: Utterance
    passed: bool
    said: str


def read_utterances(texts: list[str], file: Path | None) -> list[Utterance]:
    """Utterances of the command line and of a file.

    Args:
        texts: utterances of the command line.
        file: file with one utterance a line; a tab and the expected label may follow.

    Raises:
        SaarthiError: the file is empty or cannot be read.
    """
    utterances = [Utterance(text) for text in texts]
    if file is None:
        return utterances
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SaarthiError(f"--smoke-file {file}: cannot be read: {error}") from error
    parts = [line.partition("\t") for line in lines if line.strip()]
    if not parts:
        raise SaarthiError(f"--smoke-file {file}: is empty; one utterance a line")
    return [*utterances, *(Utterance(t.strip(), label.strip() or None) for t, _, label in parts)]


def smoke_test(
    cluster: Cluster, predictor: Predictor, utterances: list[Utterance], url: str | None
) -> list[Outcome]:
    """Send each utterance to a predictor by `POST /predict`; a wrong answer is not an error.

    Args:
        cluster: cluster of the predictor.
        predictor: predictor to test.
        utterances: utterances to send.
        url: URL of the service; None: the URL from KServe, or the Service of a plain Deployment
            through the API server.
    """
    outcomes = []
    for utterance in utterances:
        try:
            answer = json.loads(_ask(cluster, predictor, {"text": utterance.text}, url))
            passed = utterance.label in (None, answer.get("label"))
            said = _said(answer) + ("" if passed else f"; expected {utterance.label}")
        except (SaarthiError, ValueError, KeyError, TypeError, AttributeError) as error:
            passed, said = False, str(error) or type(error).__name__
        outcomes.append(Outcome(utterance, passed, said))
    return outcomes


def _ask(cluster: Cluster, predictor: Predictor, body: dict[str, Any], url: str | None) -> str:
    own = predictor.document.get("status", {}).get("url")
    if url is None and predictor.mode is Mode.DEPLOYMENT:
        name = f"{predictor.name}:http"
        return cluster.call(predictor.namespace, "services", name, "/predict", body)
    if url is None and own is None:
        raise SaarthiError("KServe has not set a URL: give --url")
    address = f"{(url or own).rstrip('/')}/predict"
    # A gateway behind an IP address or a forwarded port routes by the host name.
    host = urllib.parse.urlsplit(own).netloc if url and own and _is_address(url) else None
    try:
        return ask(address, body, host)
    except SaarthiError as error:
        hint = "" if url else "; if this machine cannot resolve the name, give the gateway's --url"
        raise SaarthiError(f"{error}{hint}") from error


def _is_address(url: str) -> bool:
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _said(answer: dict[str, Any]) -> str:
    parts = [f"{answer['label']} ({answer['probability']:.3f})"] if "label" in answer else []
    for found in (*answer.get("entities", ()), *answer.get("tokens", ())):
        parts.append(f"{found['text']} {found['label']}")
    if answer.get("abstained"):
        parts.append("abstained")
    version = f" [{answer['model']} {answer['version']}]" if "version" in answer else ""
    return (", ".join(parts) or "no entities") + version
