"""The stress test: `locust` in the project's root, for a predictor that runs.

Users speak V1, V2 and `POST /predict`, in a mix of languages and lengths. An answer that is wrong
counts as a failure; one that is refused with 503 and Retry-After is counted apart, as shed. At the
end the figures are held against an SLO, which decides the exit code: 0 kept, 1 missed.

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

logger = logging.getLogger("locust.stats_logger")  # which prints the tables

SHAPES = ("steady", "steps", "spikes")
STEPS = 5
SPIKES = 3
BETWEEN_SPIKES = 0.25  # of the users
PERIOD = 300.0  # seconds of a shape where no run time is given; then it begins again
SEVERAL = (2, 8)  # texts of a request that has more than one
SHED = " (shed)"


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add ours to locust's options; in pyproject.toml they stand without the dashes."""
    hidden: dict[str, Any] = {"include_in_web_ui": False}  # read once, at the start
    parser.add_argument("--shape", choices=SHAPES, default="steady", help="of the load in time")
    parser.add_argument(
        "--pace",
        type=float,
        default=5.0,
        help="requests a second of a user, about; 0 is all it can",
    )
    parser.add_argument("--model", default="", help="to ask; by default the server's first")
    parser.add_argument(
        "--utterances",
        default="",
        help="JSON lines with text and lang; by default Home Assistant's, in English and Hindi",
        **hidden,
    )
    parser.add_argument(
        "--languages",
        default="",
        help="weights, such as english=3,hindi=1; by default equal",
        **hidden,
    )
    parser.add_argument(
        "--lengths",
        default="short=4,medium=5,long=1",
        help="weights; short is up to 4 words, medium up to 8",
        **hidden,
    )
    for name, limit in asdict(Slo()).items():
        text = f"{'least' if name == 'rate' else 'most'}; see tests/load/slo.py"
        parser.add_argument(f"--slo-{name}", type=float, default=limit, help=text, **hidden)


class ServiceUser(FastHttpUser):
    """Someone who asks a predictor, over one connection that is kept."""

    abstract = True
    connection_timeout = network_timeout = 20.0
    mix: ClassVar[Mix]
    answers: ClassVar[Answers]
    model: ClassVar[str]

    def wait_time(self) -> float:
        """Seconds until the next request: at random, so that users do not ask all at once."""
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
        """Send a request and judge the answer, of which `read` takes out the list of answers."""
        with self.client.post(path, json=body, name=name, catch_response=True) as response:
            if response.status_code == 0:
                return  # no answer; locust says why
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
            return f"the body is of another form ({type(error).__name__})"
        return self.answers.problem(self.model, sent, answers)


class PredictUser(ServiceUser):
    """A voice bot: one text at a time, by the shortest way."""

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
    """How many users there are at a time: all, more by steps, or few with spikes."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """The users wanted now, and how many of them may come in a second; None at the end."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        seconds, end = self.get_run_time(), options.run_time
        if end and seconds >= end:
            return None
        period = end or PERIOD
        share = share_of_users(options.shape, seconds % period / period)
        most = getattr(options, "users", None) or options.num_users or 1  # the web page's, --users
        users = max(1, round(share * most))
        at_once = options.shape != "steady"
        return users, float(users if at_once else options.spawn_rate or 1)


def share_of_users(shape: str, progress: float) -> float:
    """The share of all users that a shape wants.

    Args:
        shape: one of `SHAPES`.
        progress: of the test, from 0 to 1.
    """
    if shape == "steps":
        return max(1, math.ceil(progress * STEPS)) / STEPS
    if shape == "spikes":
        return 1.0 if 0.5 <= progress * SPIKES % 1 < 0.75 else BETWEEN_SPIKES
    return 1.0


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Read the utterances, and have the SLO judged at the end."""
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
        # Headless and with a shape, locust itself listens only when the test is over.
        gevent.signal_handler(signal.SIGTERM, environment.runner.quit)
        lines: list[str] = []
        environment.events.quitting.add_listener(lambda **_: lines.extend(judge(environment)))
        # After locust's own tables.
        environment.events.quit.add_listener(lambda **_: logger.info("\n".join(lines)))


@events.test_start.add_listener
def meet(environment: Environment, **_: Any) -> None:
    """Learn the model's name, and forget what another server has answered."""
    options = environment.parsed_options
    assert options is not None
    ServiceUser.answers = Answers()
    ServiceUser.model = options.model or _first_model(environment.host or "")


def _first_model(host: str) -> str:
    try:
        with urllib.request.urlopen(f"{host}/v2/models", timeout=10) as response:
            return str(json.load(response)["models"][0])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StopTest(f"{host} is no predictor ({error}): start one, or give --host") from error


def judge(environment: Environment) -> list[str]:
    """Hold what was seen against the SLO and set the exit code; lines for the user."""
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
