"""Kill runs at random moments, go on each time, and hold what they end with against a run in peace.

    python benchmarks/crashes.py --kills 200

Every run is `saarthi_lib.train`, the whole way, on few real rows and with a teacher of two layers,
in a child of a process that has imported the libraries but computed nothing: so a start costs
nothing, and a run a few seconds. SIGKILL ends the child after a random time, or shortly after the
begin or end of a random step, again and again, until it is done sooner; then once more while it
finds everything done.

After each kill every step, bundle and record at its place must be whole, by its digests, or it
counts as corrupt. The attempt after a kill must take every step that was recorded as finished, or
it has not resumed. At the end the artifacts of all steps and the bundles must equal those of the
run in peace, and nothing half-written may be left, or all kills of the run count as wrong.
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

from common import machine, print_line, print_table

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
# What a clock, a path, or a process's count of scripted classes has a part in.
APART = re.compile(
    r"(.*/)?((step|metrics|details|bundle|training_config)\.json|(report|check)\.html|model\.pt)"
)
MARK = re.compile(r"--- (.+?)(: [\d.]+ s)?$", re.MULTILINE)  # the begin of a step, or its end
PATIENCE = 900.0  # seconds that a run in peace may take


def main() -> None:
    """Kill, go on, check, and print the table; exit code 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    start, chance = time.monotonic(), random.Random(given.seed)
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="saarthi-crashes-") as scratch:
        folder = Path(scratch)
        write_home_assistant(folder / "input", rows=ROWS, transfer_rows=50)
        os.waitpid(_in_child(lambda: _write_teacher(folder / "two-layers")), 0)
        peace = _Run(folder / "peace")
        peace.go(PATIENCE)
        _preload(read_json(folder / "modules.json"))
        again, began = _Run(folder / "again"), time.monotonic()
        again.go(PATIENCE)
        seconds = time.monotonic() - began
        expected = peace.artifacts()
        if again.artifacts() != expected:
            sys.exit("two runs in peace differ: nothing can be said of kills")
        runs = kills = 0
        while kills < given.kills:
            runs += 1
            run = _Run(folder / f"run-{runs}")
            while kills + run.kills < given.kills:
                marks = chance.choice((0, 1, 2, 3))
                if run.go(chance.uniform(0, 0.2 if marks else seconds / 2), marks):
                    break
            if kills + run.kills < given.kills:
                run.go(chance.uniform(0, 0.5))
            run.go(PATIENCE)
            kills += run.kills
            run.close(expected, counts)
            print_line(f"run {runs}: {run.kills} kills, {kills} in all")
    columns = ("kills", "resumed", "corrupt", "wrong")
    rows = [
        [step, *(str(found[name]) for name in columns)]
        for step, found in sorted(counts.items(), key=lambda item: -item[1]["kills"])
    ]
    total: Counter[str] = sum(counts.values(), Counter())
    rows.append(["**all**", *(str(total[name]) for name in columns)])
    print_table(f"{kills} kills in {runs} runs", ["killed in", *columns], rows)
    took = f"{time.monotonic() - start:.0f} s, of which {seconds:.1f} s are a run in peace"
    print_line(f"\n{took}; load {os.getloadavg()[2]:.1f}; {machine()}")
    sys.exit(total["resumed"] != total["kills"] or bool(total["corrupt"] or total["wrong"]))


class _Run:
    """A run's folder, in which one child after the other trains until it is killed or done."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root.with_suffix(".log")
        self.killed: list[Counter[str]] = []
        self.steps: list[str] = []
        self.finished: set[str] = set()

    @property
    def kills(self) -> int:
        return len(self.killed)

    def go(self, seconds: float, marks: int = 0) -> bool:
        """Train until so many steps have begun or ended, and so long; then kill.

        Returns:
            Whether it was done before.
        """
        child = _in_child(lambda: _train(self.root, self.log))
        ended, deadline = False, None if marks else time.monotonic() + seconds
        while not (ended := os.waitpid(child, os.WNOHANG) != (0, 0)):
            if deadline is None and len(MARK.findall(self._said())) >= marks:
                deadline = time.monotonic() + seconds
            if deadline is not None and time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(0.002)
        said = self._said()
        self.log.unlink(missing_ok=True)
        begun = [name for name, end in MARK.findall(said) if not end]
        if self.killed and not self.finished & set(begun):
            self.killed[-1]["resumed"] = 1
        if ended and not (self.root / "metrics.json").exists():
            sys.exit(f"{self.root}: ended without a result: {said[-2000:]}")
        if not ended:
            self._look(MARK.findall(said))
        return ended

    def _said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def _look(self, marks: list[tuple[str, str]]) -> None:
        """After a kill: where it was, and whether all that is there is whole."""
        place = "between steps"
        if not marks:
            place = "before the first step"
        elif not marks[-1][1]:
            place = marks[-1][0]
        found = Counter(kills=1)
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
            found["corrupt"] = 1
            print_line(f"corrupt after a kill in {place}: {error}")
        self.steps.append(place)
        self.killed.append(found)

    def artifacts(self) -> dict[str, str]:
        """Digests of what the steps have made, and of the bundles."""
        found: dict[str, str] = {}
        for record in self.root.rglob(RECORD):
            name = record.parent.relative_to(self.root).as_posix()
            found |= {f"{name}/{file}": of for file, of in read_json(record)["files"].items()}
        for bundle in BUNDLES:
            files = verify_bundle(self.root / bundle).files
            found |= {f"{bundle}/{file}": record.sha256 for file, record in files.items()}
        return {name: digest for name, digest in found.items() if not APART.fullmatch(name)}

    def close(self, expected: dict[str, str], counts: dict[str, Counter[str]]) -> None:
        """Compare what it ended with, and add its kills to those of all runs."""
        made = self.artifacts()
        differing = sorted(name for name in expected | made if expected.get(name) != made.get(name))
        differing += [str(path) for path in self.root.rglob(".*")]
        if differing:
            print_line(f"{self.root.name}: ended with another {', '.join(differing)}")
        for step, found in zip(self.steps, self.killed, strict=True):
            found["wrong"] = int(bool(differing))
            counts.setdefault(step, Counter()).update(found)


def _in_child(work: Callable[[], None]) -> int:
    """Begin something in a child; its process."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    return child


def _train(root: Path, log: Path) -> None:
    """What a child does."""
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


def _preload(modules: list[str]) -> None:
    """Import what a run imports, so that the children need not."""
    for name in modules:
        with suppress(Exception):  # names that are no modules of their own
            importlib.import_module(name)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
