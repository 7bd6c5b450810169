"""Fuzzing targets of accidents and attacks: slow texts, extreme bundles, damaged runs, terminals.

They call only public surfaces: a normalizer, the loader of bundles, a comparison, the console.
"""

import contextlib
import io
import json
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pandas as pd

from predictors.sources import Source
from predictors.version import Version
from saarthi_lib.bundle import MANIFEST, read_manifest
from saarthi_lib.cli.console import SafeConsole, plain, table
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.read import read_table
from saarthi_lib.errors import BundleError, SaarthiError, printable
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.inference.trial import Trial
from saarthi_lib.reports.runs import compare_runs, read_runs
from saarthi_lib.text.normalize import PRESETS, Normalizer
from tests.fuzz.inputs import broken, changed, text
from tests.late_networks import (
    FAULTS,
    ROWS,
    TOKENS,
    bundle_with,
    endless_network,
    late_network,
    looped_network,
)
from tests.predictors.serving import serving
from tests.tiny_bundle import write_tiny_bundle

OLD_RUN = Path(__file__).parent.parent / "old_run"
MARKS = "\u0301\u0315\u0327\u0345\u05b0\u064b\u093c\u094d\u0e38\u302a\u3099\U0001d165"
MOST_MARKS = 30  # of the stream-safe text format
PAGES = ("/", "/metadata", "/v1/models/tiny", "/v2/health/ready", "/v2/models/tiny")
EXTREME: tuple[Any, ...] = (10**30, -(10**30), 2**63, 1e308, "x" * 10**5, "", None, True, [], {})


@cache
def scratch(name: str) -> Path:
    """A folder of this process."""
    return Path(tempfile.mkdtemp(prefix=f"saarthi-fuzz-{name}-"))


@cache
def bundle() -> Path:
    return write_tiny_bundle(scratch("bundle") / "bundle", "joint", runtime="onnxruntime")


def slow_text(draw: Random) -> None:
    """Long runs of marks, in any order of their classes, are normalized in time."""
    block = "".join(draw.choice(MARKS) for _ in range(draw.randrange(1, 40)))
    given = "a" + block * draw.randrange(1, 60) + text(draw, 3)
    preset = draw.choice(PRESETS)
    normalizer = Normalizer(preset)
    made = normalizer(given)
    assert normalizer(made) == made == normalizer.align(given).text
    if preset != "none":  # which leaves texts as they are
        assert longest_run(made) <= MOST_MARKS


def longest_run(given: str) -> int:
    """Length of the longest run of marks; the work of normalizing grows with its square."""
    kinds = (unicodedata.combining(each) > 0 for each in unicodedata.normalize("NFKD", given))
    return max((len(list(run)) for marks, run in groupby(kinds) if marks), default=0)


def extreme_manifest(draw: Random) -> None:
    """Any values in a manifest can be shown, or are refused with a message."""
    folder = scratch("manifest")
    _write_extreme(draw, folder)
    with contextlib.suppress(BundleError):
        orjson.dumps(read_manifest(folder).to_dict())


def served_manifest(draw: Random) -> None:
    """A server that accepts a manifest answers for health and metadata."""
    folder = scratch("served") / "bundle"
    if not folder.exists():
        shutil.copytree(bundle(), folder)
    _write_extreme(draw, folder, ("metrics", "made_by", "thresholds", "created", "languages"))
    try:
        read_manifest(folder)
        Predictor.load(folder)
    except BundleError:
        return
    with serving(folder, reload_seconds=0) as server:
        for page in PAGES:
            answer = server.get(page)
            assert answer.status_code == 200, (page, answer.text[:200])
            assert len(answer.content) < 1 << 20, page


def _write_extreme(draw: Random, folder: Path, places: Sequence[str] = ()) -> None:
    """Write a manifest with an extreme value in one of its places."""
    content = json.loads((bundle() / MANIFEST).read_text(encoding="utf-8"))
    deep: Any = 1
    for _ in range(draw.randrange(draw.choice((8, 700)))):
        deep = {"a": deep} if draw.random() < 0.5 else [deep]
    place = draw.choice(places or [*content, "metrics", "metrics"])
    content[place] = draw.choice((*EXTREME, deep, {"main": draw.choice(EXTREME)}))
    content.pop("digest", None)
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def late_failure(draw: Random) -> None:
    """A network that fails for one size of batches, or never ends, is refused in time."""
    good = (bundle() / "model.onnx").read_bytes()
    kind = draw.randrange(6)
    if kind == 0:
        content = endless_network(good)
    elif kind == 1:
        content = looped_network(good, draw.choice((1, 2**31, 2**62)))
    else:
        axis, most = draw.choice(((ROWS, 32), (TOKENS, 26)))
        content = late_network(good, draw.choice(list(FAULTS)), axis, draw.randrange(1, most + 1))
    with tempfile.TemporaryDirectory() as name:
        made = bundle_with(bundle(), Path(name) / "bundle", content)
        try:
            Version.load(Source(str(made)), 1, (), Trial(seconds=4))
        except BundleError:
            return
    raise AssertionError("the network was accepted")


def failing_network(draw: Random) -> None:
    """A network with changed nodes is refused or answers."""
    from hashlib import sha256

    import onnx

    folder = scratch("network") / "bundle"
    if not folder.exists():
        shutil.copytree(bundle(), folder)
    model = onnx.load_from_string((bundle() / "model.onnx").read_bytes())
    nodes = model.graph.node
    node = nodes[draw.randrange(len(nodes))]
    kind = draw.randrange(3)
    if kind == 0:
        node.op_type = draw.choice(("Loop", "Identity", "If", "Sqrt", "Neg"))
    elif kind == 1 and node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice(nodes).output[0]
    else:
        nodes.remove(node)
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    manifest = json.loads((bundle() / MANIFEST).read_text(encoding="utf-8"))
    file = {"sha256": sha256(content).hexdigest(), "size_bytes": len(content)}
    manifest["files"]["model.onnx"] = file
    manifest.pop("digest", None)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    try:
        predictor = Predictor.load(folder)
    except BundleError:
        return
    predictor.predict(["turn on", "a " * 200])


@cache
def _predictions() -> bytes:
    labels, tags = ["a", "b"], [["O", "O"], ["B-x", "O"]]
    columns: dict[str, Any] = {"text": ["go on", "stop it"], "lang": ["english", "hindi"]}
    columns["words"] = [["go", "on"], ["stop", "it"]]
    for source in ("gold", "teacher", "final", "quantized"):
        columns |= {f"{source}_label": labels, f"{source}_tags": tags}
        columns[f"{source}_right"] = [True, False]
    pd.DataFrame(columns).to_parquet(made := io.BytesIO())
    return made.getvalue()


def damaged_run(draw: Random) -> None:
    """A run with damaged files is compared, or refused with a message."""
    folder = scratch("runs") / "two"
    if not folder.exists():
        shutil.copytree(OLD_RUN, folder)
    (folder / "predictions.parquet").write_bytes(_predictions())
    name = draw.choice(("metrics.json", "run.json", "predictions.parquet"))
    content = original = (folder / name).read_bytes()
    if name.endswith(".json") and draw.random() < 0.7:
        content = json.dumps(changed(draw, json.loads(content))).encode()
    (folder / name).write_bytes(content if draw.random() < 0.5 else broken(draw, content))
    try:
        with contextlib.suppress(SaarthiError):
            orjson.dumps(json.loads(json.dumps(compare_runs(read_runs([OLD_RUN, folder])))))
    finally:
        (folder / name).write_bytes(original)


def damaged_parquet(draw: Random) -> None:
    """A damaged Parquet file is read, or refused with a message."""
    file = scratch("parquet") / "train.parquet"
    rows = {"text": ["hello there"] * 9, "label": ["a", "b", "c"] * 3}
    pd.DataFrame(rows).to_parquet(made := io.BytesIO())
    file.write_bytes(broken(draw, made.getvalue()))
    with contextlib.suppress(SaarthiError):
        config = TrainConfig.from_mapping({"task": "intent_classification", "language": "english"})
        read_table(file, config)


def terminal(draw: Random) -> None:
    """No text sends control characters to a terminal, also as a label in a table."""
    given = text(draw, surrogates=True)
    file = io.StringIO()
    console = SafeConsole(file=file, width=draw.randrange(1, 100), color_system=None)
    rows = table(plain(given))
    rows.add_row(plain(given))
    console.print(f"[bold]{plain(given)}[/] done", given, rows, markup=True)
    for line in file.getvalue().split("\n"):
        assert printable(line) == line


ACCIDENTS: dict[str, tuple[Callable[[Random], None], int]] = {
    "normalizer: runs of marks": (slow_text, 20_000),
    "loader: extreme manifests": (extreme_manifest, 20_000),
    "server: extreme manifests, health and metadata": (served_manifest, 500),
    "loader: changed networks": (failing_network, 500),
    "loader: networks that fail late or never end": (late_failure, 500),
    "runs: damaged files": (damaged_run, 5_000),
    "readers: damaged Parquet": (damaged_parquet, 5_000),
    "terminal: any text": (terminal, 20_000),
}
