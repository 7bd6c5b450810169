"""The load test: its texts, the wrong answers it detects, its SLO and its exit code."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib.errors import ConfigError, DataError
from tests.benchmark_scripts import output_of
from tests.load.answers import Answers
from tests.load.slo import Slo
from tests.load.utterances import (
    Mix,
    Utterance,
    demo_utterances,
    read_utterances,
    read_weights,
)
from tests.predictors.serving import Server, serving
from tests.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parent.parent
LOOSE = ("--slo-p95", "2000", "--slo-p99", "4000", "--slo-failures", "0")

# Locust runs in its own process, because importing it patches threads and sockets.
needs_locust = pytest.mark.skipif(
    importlib.util.find_spec("locust") is None, reason="locust is not installed"
)


def test_mix_follows_the_weights() -> None:
    mix = Mix(demo_utterances(), {"english": 3.0, "hindi": 1.0}, {"short": 1.0, "long": 1.0})

    drawn = mix.draw(4000)

    languages = Counter(utterance.lang for utterance in drawn)
    lengths = Counter(utterance.length for utterance in drawn)
    assert 0.70 < languages["english"] / 4000 < 0.80
    assert 0.45 < lengths["long"] / 4000 < 0.55 and set(lengths) == {"short", "long"}
    assert len({utterance.text for utterance in drawn}) > 500


def test_utterances_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "வணக்கம்", "lang": "tamil"}\n{"text": "hello"}\n', encoding="utf-8")
    read = read_utterances(file)

    assert read == [Utterance("வணக்கம்", "tamil"), Utterance("hello", None)]
    assert {utterance.lang for utterance in Mix(read, {}, {}).draw(100)} == {"tamil", None}
    with pytest.raises(ConfigError, match="hindi"):
        Mix(read, {"hindi": 1.0}, {})
    file.write_text('{"sentence": "hello"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"texts\.jsonl"):
        read_utterances(file)


@pytest.mark.parametrize("text", ["english=many", "english=0", "=,hindi=-1"])
def test_invalid_weight_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read_weights(text)


SENT = [Utterance("lights in the kitchen", "english")]
ANSWER: dict[str, Any] = {
    "label": "lights",
    "probability": 0.9,
    "entities": [{"text": "kitchen", "label": "area", "start": 14, "end": 21, "probability": 0.8}],
    "abstained": False,
    "lang": "english",
    "model": "bot",
    "version": "1",
}


@pytest.mark.parametrize(
    "change",
    [
        {"label": "music"},  # another caller's answer
        {"entities": []},
        {"entities": [{**ANSWER["entities"][0], "start": 13, "end": 20}]},
        {"model": "other"},
        {"lang": "hindi"},
        {"probability": 1.2},
        {"label": None},
        {"version": None},
    ],
)
def test_wrong_answer_is_detected(change: dict[str, object]) -> None:
    answers = Answers()
    assert answers.problem("bot", SENT, [ANSWER]) is None

    assert answers.problem("bot", SENT, [{**ANSWER, **change}])
    assert answers.problem("bot", SENT, [ANSWER]) is None


def test_malformed_answer_is_detected() -> None:
    answers: object
    for answers in ([], None, [ANSWER, ANSWER], [{}], ["lights"], [{**ANSWER, "entities": 1}]):
        assert Answers().problem("bot", SENT, answers)


def test_new_version_or_tie_may_change_the_answer() -> None:
    answers = Answers()
    assert answers.problem("bot", SENT, [ANSWER]) is None

    other = {**ANSWER, "label": "music"}
    assert answers.problem("bot", SENT, [{**other, "version": "2"}]) is None
    assert answers.problem("bot", SENT, [{**other, "probability": 0.5}]) is None


def test_slo_is_missed_if_one_part_is_missed() -> None:
    slo = Slo(p95=50, p99=100, failures=0.01, shed=0.1, rate=20)
    kept, lines = slo.judge(Slo(p95=50, p99=100, failures=0.01, shed=0.1, rate=20))
    assert kept and len(lines) == 5

    for part in ({"p95": 51}, {"p99": 101}, {"failures": 0.02}, {"shed": 0.2}, {"rate": 19}):
        kept, lines = slo.judge(
            Slo(**{"p95": 1, "p99": 1, "failures": 0, "shed": 0, "rate": 99} | part)
        )
        [missed] = [line for line in lines if "MISSED" in line]
        assert not kept and next(iter(part)) in missed


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_tiny_bundle(Path(folder) / "tiny", "joint", runtime="onnxruntime")
        # The queue overflows if users send without a pause.
        with serving(bundle, max_queue=8, max_instances=8, max_batch=1) as running:
            yield running


def locust(host: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary", "--host", host]
    return subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@needs_locust
def test_load_test_exits_with_0_if_the_slo_is_kept(server: Server) -> None:
    load = ("-u", "6", "-r", "6", "-t", "2s", "--pace", "20", "--shape", "steps")
    done = locust(server.url, *load, "--slo-rate", "5", "--slo-shed", "1", *LOOSE)

    assert done.returncode == 0, done.stderr
    assert "SLO kept" in done.stderr
    for name in ("/predict", "V1", "V2"):
        assert f"POST     {name} " in done.stderr
    asked = [server.metric("saarthi_requests_total", protocol=p) for p in ("predict", "v1", "v2")]
    assert min(asked) > 0
    outcomes = [server.metric("saarthi_requests_total", outcome=o) for o in ("ok", "shed")]
    assert outcomes[0] > 0 and sum(outcomes) == sum(asked)


@needs_locust
def test_load_test_counts_shed_requests_and_exits_with_1(server: Server) -> None:
    load = ("-u", "40", "-r", "40", "-t", "1s", "--pace", "0", "--slo-shed", "0")
    done = locust(server.url, *load, *LOOSE)

    assert done.returncode == 1, done.stderr
    assert "SLO MISSED" in done.stderr and "MISSED shed" in done.stderr
    assert "kept   failures" in done.stderr
    assert "(shed)" in done.stderr


@needs_locust
def test_load_test_without_a_server_exits_with_1() -> None:
    done = locust("http://127.0.0.1:9", "-t", "1s")

    assert done.returncode == 1
    assert "start one, or give --host" in done.stderr


@pytest.mark.slow
@needs_locust
def test_reloads_and_a_rollout_lose_no_request() -> None:
    options = ("--minutes", "0.2", "--slo-p95", "4000", "--slo-p99", "9000")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "load" / "roll.py"), *options],
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    assert "has loaded roll-5" in done.stderr and "has ended" in done.stderr
    assert "SLO kept" in done.stderr
    assert all(
        int(line.split()[-2]) > 0 for line in done.stderr.splitlines() if "connections" in line
    )


@pytest.mark.slow
def test_half_a_minute_of_mixed_load_grows_nothing() -> None:
    output = output_of("-m", "tests.load.soak", "--minutes", "0.5")  # exit code 1 if it grows

    assert "Faults: 0." in output and "Flat." in output


def test_capacity_section_computes_pods_and_costs(tmp_path: Path) -> None:
    turn = {"good": 2000.0, "cpu_ms": 0.75, "p50": 3.0, "p99": 9.0}
    slow = {"good": 900.0, "cpu_ms": 0.5, "p50": 1.0, "p99": 2.0}
    seen = {
        "machine": "a machine",
        "load_average": 0.1,
        "quick": False,
        "ours": {"1": [slow], "32": [turn, {**turn, "good": 100.0}, {**turn, "good": 9000.0}]},
        "even_times": {"0.7": turn},
    }
    file = tmp_path / "serving.json"
    file.write_text(json.dumps(seen), encoding="utf-8")
    script = ROOT / "benchmarks" / "capacity.py"
    options = ("--price", "0.10", "--peak", "2", "--utilization", "0.5")
    command = [sys.executable, str(script), str(file), *options]
    text = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout

    # 2000 a second on 1.5 CPUs are 1333 on one; 2 * 10^9 / 86,400 / (1333 * 0.5) are 34.7 pods.
    assert "2000 requests a second with 1.50 CPUs: 1333 for each CPU" in text
    assert "| 1,000 | 0.0231 | 2 | 2 | 144.00 | 4800 |" in text
    assert "| 1,000,000,000 | 23148 | 35 | 35 | 2,520.00 | 0.0840 |" in text
    assert "$0.1 an hour" in text and "Trial" not in text
