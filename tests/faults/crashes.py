"""Kill runs at random moments, resume them, and compare the results with an uninterrupted run.

    python -m tests.faults.crashes --kills 200

A run is `saarthi_lib.train` on few real rows with a teacher of two layers, in a forked child, so it
starts at once and takes seconds. SIGKILL ends the child after a random time, or shortly after the
begin or end of a random step, until a run finishes; another run then finds everything done.

After each kill, every step, bundle and record in its place must match its digests; otherwise the
kill counts as corrupt. The next attempt must reuse every step that was recorded as finished. At the
end, all artifacts must equal those of the uninterrupted run without partial files; otherwise all
kills of the run count as wrong.
"""

import argparse
import importlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from saarthi_lib import train
from saarthi_lib.bundle import verify_bundle
from saarthi_lib.demo.home_assistant import write_home_assistant
from saarthi_lib.errors import SaarthiError
from saarthi_lib.logs import configure
from saarthi_lib.storage import RECORD, read_json, verify_record, write_json

CONFIG = {
    "task": "intent_classification",
    "fast_dev_run": True,
    "precision": 32,
    "teacher_layer_to_distil": 2,
    "student_word_emb_dim": 16,
    "student_lstm_dim": 16,
    "student_batch_size": 32,
    "vocabulary_extra_tokens": 0,
    "explained_errors": 0,
}
ROWS = {lang: {"train": 8, "validation": 3, "test": 4} for lang in ("en", "hi")}
RECORDS = ("run.json", "metrics.json")
BUNDLES = ("bundle", "bundle-int8")
# Files with times or paths, and TorchScript, whose class names depend on the process.
DIFFERENT = re.compile(
    r"(.*/)?((step|metrics|details|bundle|training_config)\.json|(report|check)\.html|model\.pt)"
)
MARK = re.compile(r"--- (.+?)(: [\d.]+ s)?$", re.MULTILINE)  # log line at a step's begin or end
COLUMNS = ("kills", "resumed", "corrupt", "wrong")
PATIENCE = 900.0  # most seconds of an uninterrupted run


def main() -> None:
    """Kill, resume, check, and print the table; exit code 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    options = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="saarthi-crashes-") as scratch:
        runs = kill_runs(Path(scratch), options.kills, random.Random(options.seed), counts)
    total: Counter[str] = sum(counts.values(), Counter())
    found = [*sorted(counts.items(), key=lambda item: -item[1]["kills"]), ("**all**", total)]
    show(f"\n{options.kills} kills in {runs} runs\n")
    show(f"| killed in | {' | '.join(COLUMNS)} |")
    show("|---|" + len(COLUMNS) * "--:|")
    for step, count in found:
        show(f"| {step} | {' | '.join(str(count[name]) for name in COLUMNS)} |")
    sys.exit(total["resumed"] != total["kills"] or bool(total["corrupt"] or total["wrong"]))


def kill_runs(folder: Path, most: int, draw: random.Random, counts: dict[str, Counter[str]]) -> int:
    """Kill runs until there were `most` kills; returns the number of runs."""
    write_home_assistant(folder / "input", rows=ROWS, transfer_rows=50)
    os.waitpid(_in_child(lambda: _write_teacher(folder / "two-layers")), 0)
    first = Run(folder / "first")
    first.go(PATIENCE)
    for name in read_json(folder / "modules.json"):  # so that children need not import them
        with suppress(Exception):  # some names cannot be imported on their own
            importlib.import_module(name)
    second, began = Run(folder / "second"), time.monotonic()
    second.go(PATIENCE)
    seconds = time.monotonic() - began
    expected = first.artifacts()
    if second.artifacts() != expected:
        sys.exit("two uninterrupted runs differ, so kills cannot be judged")
    runs = kills = 0
    while kills < most:
        runs += 1
        run = Run(folder / f"run-{runs}")
        while kills + run.kills < most:
            marks = draw.choice((0, 1, 2, 3))
            if run.go(draw.uniform(0, 0.2 if marks else seconds / 2), marks):
                break
        if kills + run.kills < most:
            run.go(draw.uniform(0, 0.5))
        run.go(PATIENCE)
        kills += run.kills
        run.close(expected, counts)
        show(f"run {runs}: {run.kills} kills, {kills} in all")
    return runs


class Run:
    """The folder of a run, in which children train until one finishes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root.with_suffix(".log")
        self.killed: list[tuple[str, Counter[str]]] = []  # step and counts of each kill
        self.finished: set[str] = set()

    @property
    def kills(self) -> int:
        """Number of kills."""
        return len(self.killed)

    def go(self, seconds: float, marks: int = 0) -> bool:
        """Train until this many steps have begun or ended, and for these seconds; then kill.

        Returns:
            Whether the run finished before.
        """
        child = _in_child(lambda: _train(self.root, self.log))
        deadline = None if marks else time.monotonic() + seconds
        while not (ended := os.waitpid(child, os.WNOHANG) != (0, 0)):
            if deadline is None and len(MARK.findall(self._logged())) >= marks:
                deadline = time.monotonic() + seconds
            if deadline is not None and time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(0.002)
        logged = self._logged()
        self.log.unlink(missing_ok=True)
        found = MARK.findall(logged)
        if self.killed and self.finished.isdisjoint(name for name, end in found if not end):
            self.killed[-1][1]["resumed"] = 1
        if ended and not (self.root / "metrics.json").exists():
            sys.exit(f"{self.root}: ended without a result: {logged[-2000:]}")
        if not ended:
            self._check(found)
        return ended

    def _logged(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def _check(self, marks: list[tuple[str, str]]) -> None:
        """After a kill: note the step, and verify all artifacts in their places."""
        step = "between steps"
        if not marks:
            step = "before the first step"
        elif not marks[-1][1]:
            step = marks[-1][0]
        counts = Counter(kills=1)
        try:
            for record in self.root.rglob(RECORD):
                if not any(part.startswith(".") for part in record.relative_to(self.root).parts):
                    verify_record(record.parent)
            for bundle in filter(Path.is_dir, (self.root / name for name in BUNDLES)):
                verify_bundle(bundle)
            records = {name: self.root / name for name in RECORDS}
            read = {name: read_json(path) for name, path in records.items() if path.exists()}
            for name in read.get("run.json", {}).get("steps", {}):
                self.finished.add(read_json(self.root / name / RECORD)["step"])
        except (SaarthiError, OSError, ValueError) as error:
            counts["corrupt"] = 1
            show(f"corrupt after a kill in {step}: {error}")
        self.killed.append((step, counts))

    def artifacts(self) -> dict[str, str]:
        """Digests of the files of all steps and bundles."""
        found: dict[str, str] = {}
        for record in self.root.rglob(RECORD):
            name = record.parent.relative_to(self.root).as_posix()
            found |= {f"{name}/{file}": of for file, of in read_json(record)["files"].items()}
        for bundle in BUNDLES:
            files = verify_bundle(self.root / bundle).files
            found |= {f"{bundle}/{file}": record.sha256 for file, record in files.items()}
        return {name: digest for name, digest in found.items() if not DIFFERENT.fullmatch(name)}

    def close(self, expected: dict[str, str], counts: dict[str, Counter[str]]) -> None:
        """Compare the artifacts, and add the kills to the counts by step."""
        made = self.artifacts()
        differing = sorted(name for name in expected | made if expected.get(name) != made.get(name))
        differing += [str(path) for path in self.root.rglob(".*")]
        if differing:
            show(f"{self.root.name}: different at the end: {', '.join(differing)}")
        for step, found in self.killed:
            found["wrong"] = int(bool(differing))
            counts.setdefault(step, Counter()).update(found)


def show(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _in_child(work: Callable[[], None]) -> int:
    """Fork a child that does some work; returns its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    return child


def _train(root: Path, log: Path) -> None:
    sys.stderr = log.open("w", buffering=1, encoding="utf-8")
    configure()
    folder = root.parent
    places = {"input_path": "input", "teacher_name": "two-layers", "root_output_path": root.name}
    train({**CONFIG, **{field: str(folder / name) for field, name in places.items()}})
    if not (folder / "modules.json").exists():
        write_json(folder / "modules.json", sorted(sys.modules))


def _write_teacher(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    from saarthi_lib.models.sources import resolve_teacher

    config = BertConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    BertModel(config).save_pretrained(folder)
    shutil.copy(Path(resolve_teacher("minilm")) / "tokenizer.json", folder)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
