"""The stress test: run `locust` in the project's root, with a running predictor.

Users send V1, V2 and `POST /predict` requests in a mix of languages and lengths. A wrong answer
counts as a failure; a refusal with 503 and Retry-After counts separately, as shed. At the end, the
metrics are compared with an SLO. The exit code is 0 if the SLO was kept, and 1 if it was missed.

locust                                             # the web page, on 127.0.0.1:8089
locust --headless -u 50 -t 5m --shape spikes --slo-p99 40
"""

from locust import FastHttpUser, LoadTestShape, events, task  # patches first

# isort: split
import json
import logging
import math
import random
import signal
import sys
import urllib.request
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import gevent
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import WorkerRunner
from locust.stats import StatsEntry

from saarthi_lib.errors import SaarthiError
from saarthi_lib.logs import USER_ERROR
from tests.load.answers import Answers
from tests.load.slo import Slo
from tests.load.utterances import Mix, Utterance, demo_utterances, read_utterances, read_weights

logger = logging.getLogger("locust.stats_logger")  # prints the tables

SHAPES = ("steady", "steps", "spikes")
STEPS = 5
SPIKES = 3
BETWEEN_SPIKES = 0.25  # share of the users
PERIOD = 300.0  # seconds of a shape without a run time; the shape repeats
SEVERAL = (2, 8)  # number of texts in a request with several
SHED = " (shed)"


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add our options to locust's; pyproject.toml has them without the dashes."""
    hidden: dict[str, Any] = {"include_in_web_ui": False}  # read once, at the start
    parser.add_argument(
        "--shape", choices=SHAPES, default="steady", help="change of the load over time"
    )
    parser.add_argument(
        "--pace",
        type=float,
        default=5.0,
        help="requests a second of a user, on average; 0: without a pause",
    )
    parser.add_argument(
        "--model", default="", help="name of the model; default: the first of the server"
    )
    parser.add_argument(
        "--utterances",
        default="",
        help="JSON lines with text and lang; default: Home Assistant's, in English and Hindi",
        **hidden,
    )
    parser.add_argument(
        "--languages",
        default="",
        help="weights, such as english=3,hindi=1; default: equal",
        **hidden,
    )
    parser.add_argument(
        "--lengths",
        default="short=4,medium=5,long=1",
        help="weights; short has up to 4 words, medium up to 8",
        **hidden,
    )
    for name, limit in asdict(Slo()).items():
        text = f"{'least' if name == 'rate' else 'most'}; see tests/load/slo.py"
        parser.add_argument(f"--slo-{name}", type=float, default=limit, help=text, **hidden)


class ServiceUser(FastHttpUser):
    """A user that sends requests over one connection."""

    abstract = True
    connection_timeout = network_timeout = 20.0
    mix: ClassVar[Mix]
    answers: ClassVar[Answers]
    model: ClassVar[str]

    def wait_time(self) -> float:
        """Seconds until the next request, at random so that users do not send in step."""
        pace = self.environment.parsed_options.pace
        return random.expovariate(pace) if pace else 0.0

    def ask(
        self,
        path: str,
        name: str,
        body: dict[str, Any],
        sent: Sequence[Utterance],
        read: Callable[[Any], object],
    ) -> None:
        """Send a request and check the answer; `read` extracts the list of answers."""
        with self.client.post(path, json=body, name=name, catch_response=True) as response:
            if response.status_code == 0:
                return  # locust reports the reason
            if response.status_code == 503 and "retry-after" in response.headers:
                response.request_meta["name"] = name + SHED
                response.success()
            elif response.status_code != 200:
                response.failure(f"{response.status_code}: {response.text[:200]}")
            elif problem := self._problem(response.text, sent, read):
                response.failure(problem)

    def _problem(
        self, text: str, sent: Sequence[Utterance], read: Callable[[Any], object]
    ) -> str | None:
        try:
            answers = read(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            return f"the body has an unexpected form ({type(error).__name__})"
        return self.answers.problem(self.model, sent, answers)


class PredictUser(ServiceUser):
    """A voice bot: one text per request."""

    weight = 6

    @task
    def one(self) -> None:
        """Ask about one text."""
        [utterance] = sent = self.mix.draw()
        body = {"text": utterance.text, "lang": utterance.lang}
        self.ask(f"/predict/{quote(self.model)}", "/predict", body, sent, lambda answer: [answer])


class V1User(ServiceUser):
    """A client of KServe's V1."""

    weight = 2

    @task(9)
    def one(self) -> None:
        """Ask about one text."""
        self._ask("V1", 1)

    @task(1)
    def several(self) -> None:
        """Ask about a few texts at once."""
        self._ask("V1, several", random.randint(*SEVERAL))

    def _ask(self, name: str, count: int) -> None:
        sent = self.mix.draw(count)
        body = {"instances": [{"text": each.text, "lang": each.lang} for each in sent]}
        path = f"/v1/models/{quote(self.model)}:predict"
        self.ask(path, name, body, sent, lambda answer: answer["predictions"])


class V2User(ServiceUser):
    """A client of the Open Inference Protocol over REST."""

    weight = 2

    @task(9)
    def one(self) -> None:
        """Ask about one text."""
        self._ask("V2", 1)

    @task(1)
    def several(self) -> None:
        """Ask about a few texts at once."""
        self._ask("V2, several", random.randint(*SEVERAL))

    def _ask(self, name: str, count: int) -> None:
        sent = self.mix.draw(count)
        columns = {"text": [each.text for each in sent], "lang": [each.lang or "" for each in sent]}
        body = {
            "inputs": [
                {"name": column, "datatype": "BYTES", "shape": [count], "data": values}
                for column, values in columns.items()
            ],
            "outputs": [{"name": "predictions"}],
        }
        self.ask(f"/v2/models/{quote(self.model)}/infer", name, body, sent, _read_v2)


def _read_v2(answer: Any) -> object:
    [output] = answer["outputs"]
    return [json.loads(value) for value in output["data"]]


class Shape(LoadTestShape):
    """Number of users over time: all, growing in steps, or few with spikes."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Number of users now, and of new users a second; None at the end."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        seconds, end = self.get_run_time(), options.run_time
        if end and seconds >= end:
            return None
        period = end or PERIOD
        share = share_of_users(options.shape, seconds % period / period)
        most = (
            getattr(options, "users", None) or options.num_users or 1
        )  # from the web page, or --users
        users = max(1, round(share * most))
        at_once = options.shape != "steady"
        return users, float(users if at_once else options.spawn_rate or 1)


def share_of_users(shape: str, progress: float) -> float:
    """Share of all users at a moment of a shape.

    Args:
        shape: one of `SHAPES`.
        progress: elapsed share of the test, from 0 to 1.
    """
    if shape == "steps":
        return max(1, math.ceil(progress * STEPS)) / STEPS
    if shape == "spikes":
        return 1.0 if 0.5 <= progress * SPIKES % 1 < 0.75 else BETWEEN_SPIKES
    return 1.0


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Read the utterances, and register the check of the SLO at the end."""
    options = environment.parsed_options
    assert options is not None
    try:
        file = options.utterances
        utterances = read_utterances(Path(file)) if file else demo_utterances()
        languages, lengths = read_weights(options.languages), read_weights(options.lengths)
        ServiceUser.mix = Mix(utterances, languages, lengths)
    except SaarthiError as error:
        logger.error("error: %s", error)
        sys.exit(USER_ERROR)
    if environment.runner is not None and not isinstance(environment.runner, WorkerRunner):
        # With a shape, headless locust handles signals only after the test.
        gevent.signal_handler(signal.SIGTERM, environment.runner.quit)
        lines: list[str] = []
        environment.events.quitting.add_listener(lambda **_: lines.extend(judge(environment)))
        # After locust's own tables.
        environment.events.quit.add_listener(lambda **_: logger.info("\n".join(lines)))


@events.test_start.add_listener
def meet(environment: Environment, **_: Any) -> None:
    """Get the model's name, and forget the answers of an earlier server."""
    options = environment.parsed_options
    assert options is not None
    ServiceUser.answers = Answers()
    ServiceUser.model = options.model or _first_model(environment.host or "")


def _first_model(host: str) -> str:
    try:
        with urllib.request.urlopen(f"{host}/v2/models", timeout=10) as response:
            return str(json.load(response)["models"][0])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StopTest(f"{host} is not a predictor ({error}): start one, or give --host") from error


def judge(environment: Environment) -> list[str]:
    """Compare the metrics with the SLO and set the exit code; returns lines for the user."""
    options = environment.parsed_options
    assert options is not None
    kept, lines = _slo(options).judge(_seen(environment))
    environment.process_exit_code = 0 if kept else 1
    return [f"SLO {'kept' if kept else 'MISSED'}", *lines]


def _slo(options: Namespace) -> Slo:
    return Slo(**{name: getattr(options, f"slo_{name}") for name in asdict(Slo())})


def _seen(environment: Environment) -> Slo:
    stats = environment.stats
    taken, shed = StatsEntry(stats, "taken", ""), StatsEntry(stats, "shed", "")
    for entry in stats.entries.values():
        (shed if entry.name.endswith(SHED) else taken).extend(entry)
    return Slo(
        p95=taken.get_response_time_percentile(0.95),
        p99=taken.get_response_time_percentile(0.99),
        failures=taken.fail_ratio,
        shed=shed.num_requests / max(1, taken.num_requests + shed.num_requests),
        rate=taken.total_rps - taken.total_fail_per_sec,
    )
