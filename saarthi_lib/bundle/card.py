"""Model card of a bundle: Markdown for people, from the bundle's own files."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from saarthi_lib.bundle.files import read_verified, verify_bundle
from saarthi_lib.bundle.manifest import LABELS, TRAINING_CONFIG, BundleManifest
from saarthi_lib.json_text import parse_json
from saarthi_lib.tasks import Labels, has_sequence_head
from saarthi_lib.text.markdown import UNSAFE as _UNSAFE
from saarthi_lib.text.markdown import cell as _cell
from saarthi_lib.text.markdown import code as _code
from saarthi_lib.text.markdown import text as _text

LABELS_SHOWN = 20
TRIAL = "**Trial run.** The metrics and answers of this model mean nothing. Do not publish it."
USES = {
    "intent_classification": "Finds the intent of a request to an assistant or bot",
    "text_classification": "Finds the class of a text",
    "ner": "Finds the entities in a text",
    "pos": "Finds the part of speech of each word of a text",
    "joint": "Finds the intent of a request to an assistant or bot, and the entities in it",
}
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "token_accuracy": "token accuracy",
    "span_precision": "span precision",
    "span_recall": "span recall",
    "span_f1": "span F1",
    "frame_accuracy": "right frames",
}


def model_card(folder: str | Path) -> str:
    """Verify a bundle and describe it: use, training, metrics, limits and loading.

    Raises:
        BundleError: a file of the bundle is missing or was changed.
    """
    folder = Path(folder)
    manifest = verify_bundle(folder)
    labels = Labels.parse(read_verified(folder, manifest, LABELS), folder / LABELS)
    try:
        config = _mapping(parse_json(read_verified(folder, manifest, TRAINING_CONFIG)))
    except ValueError:
        config = {}
    sections = {
        "Intended use": [_use(manifest), *_labels(labels)],
        "Training": _bullets(_training(manifest, config)),
        "Metrics on test data": _metrics(manifest),
        "Size and latency": _bullets(_size(manifest)),
        "Limits": _bullets(_limits(manifest)),
        "Load it": _loading(folder.resolve().name),
    }
    blocks = [f"# {_text(manifest.name)}", *([f"> {TRIAL}"] if manifest.trial else [])]
    for title, content in sections.items():
        blocks += [f"## {title}", *content]
    return "\n\n".join(blocks) + "\n"


def _use(manifest: BundleManifest) -> str:
    languages = f" Languages: {_list(manifest.languages)}." if manifest.languages else ""
    return (
        f"{USES[manifest.task]}.{languages} Not intended for other languages, or for subjects "
        "that the training data lack."
    )


def _labels(labels: Labels) -> Iterator[str]:
    spans = dict.fromkeys(tag[2:] for tag in labels.token if tag[:2] in ("B-", "I-"))
    tags = list(spans) or [tag for tag in labels.token if tag != "O"]
    for kind, names in (
        ("Labels", list(labels.answers)),
        ("Entity types" if spans else "Tags", tags),
    ):
        if names:
            more = ", …" if len(names) > LABELS_SHOWN else ""
            shown = ", ".join(map(_code, names[:LABELS_SHOWN]))
            yield f"{kind} ({len(names)}): {shown}{more}"


def _training(manifest: BundleManifest, config: Mapping[str, Any]) -> Iterator[str]:
    made_by = manifest.made_by
    yield f"Version {_text(manifest.version)}, made on {manifest.created[:10]}"
    if teacher := config.get("teacher_name"):
        family, preset = config.get("student_family"), config.get("student_preset")
        student = " ".join(_text(part) for part in (family, preset) if part)
        yield f"Teacher: {_text(_without_folders(str(teacher)))}; student: {student or 'unknown'}"
    if chosen := _mapping(made_by.get("recipe")):
        recipe = _text(config.get("recipe", "auto"))
        yield f"Recipe: {recipe}; fields chosen by the data: {len(chosen)}"
    versions = _mapping(made_by.get("versions"))
    if versions:
        yield "Versions: " + ", ".join(f"{_text(k)} {_text(v)}" for k, v in versions.items())
    for name, key in (("Source revision", "source_revision"), ("Data digest", "data_digest")):
        if key in made_by:
            yield f"{name}: {_text(made_by[key])}"
    yield f"Normalization: {_text(manifest.normalization)}"


def _metrics(manifest: BundleManifest) -> Iterator[str]:
    found = manifest.metrics
    rows = {"all": found, **_mapping(found.get("by_language")), "not in train": found.get("unseen")}
    names = [name for name in METRICS if _number(found.get(name)) is not None]
    if names:
        lines = ["", *(METRICS[name] for name in names), "examples"]
        table = [lines, ["---", *["--:"] * (len(lines) - 1)]]
        for title, scores in rows.items():
            if of_row := _mapping(scores):
                values = [_shown(of_row.get(name), ".3f") for name in names]
                table.append([_cell(title), *values, _shown(of_row.get("examples"), ",.0f")])
        yield "\n".join(f"| {' | '.join(line)} |" for line in table)
    else:
        yield "The bundle has no metrics."
    yield _threshold(manifest)


def _threshold(manifest: BundleManifest) -> str:
    if not manifest.abstains:
        return "No threshold: the model answers every text."
    thresholds = [f"{value:.3f} ({_text(n)})" for n, value in manifest.language_thresholds.items()]
    if manifest.threshold is not None:
        others = " (other languages)" if thresholds else ""
        thresholds.append(f"{manifest.threshold:.3f}{others}")
    text = f"Threshold: the model abstains if its confidence is below {', '.join(thresholds)}."
    found = _mapping(manifest.metrics.get("calibration"))
    coverage, risk = _number(found.get("coverage")), _number(found.get("risk"))
    if coverage is not None and risk is not None:
        text += f" On test it answers {coverage:.1%} of the texts (coverage);"
        text += f" {risk:.1%} of these answers are wrong (risk)."
    if manifest.expected_coverage:
        low, high = manifest.expected_coverage
        text += f" Expected coverage of similar texts: {low:.0%} to {high:.0%}."
    return text


def _size(manifest: BundleManifest) -> Iterator[str]:
    total = sum(record.size_bytes for record in manifest.files.values())
    parameters = _number(manifest.metrics.get("parameters"))
    counted = "" if parameters is None else f", {parameters:,.0f} parameters"
    yield f"{total / 1e6:.1f} MB{counted}; {manifest.precision} weights, for {manifest.runtime}"
    latency = _mapping(manifest.metrics.get("latency_ms"))
    p50, p99 = _number(latency.get("p50")), _number(latency.get("p99"))
    if p50 is not None and p99 is not None:
        yield f"{p50:.2f} ms (p50) and {p99:.2f} ms (p99) for one text, where it was trained"


def _limits(manifest: BundleManifest) -> Iterator[str]:
    if has_sequence_head(manifest.task):
        yield "One label for each text, from the labels above"
    yield f"Texts are cut after {manifest.max_seq_len} subword tokens"
    if manifest.abstains:
        yield "An abstention (`abstained`) is not an answer: ask the user again, or a person"
    if manifest.precision == "int8":
        yield "The other texts of a batch can change a probability slightly"
    yield "Metrics hold for texts like the test data; measure on your own users' texts"


def _loading(name: str) -> Iterator[str]:
    shown = json.dumps(_UNSAFE.sub(" ", name).replace("`", " "), ensure_ascii=False)
    code = [
        "from saarthi_lib import Predictor",
        f"predictor = Predictor.load({shown})",
        'print(predictor.predict(["your text"])[0].to_dict())',
    ]
    yield "\n".join(("```python", *code, "```"))


def _bullets(lines: Iterable[str]) -> list[str]:
    return ["\n".join(f"- {line}" for line in lines)]


def _list(names: Iterable[object]) -> str:
    return ", ".join(map(_text, names))


def _without_folders(teacher: str) -> str:
    """A name or hub id as it is; only the last part of a path, which may name a user."""
    is_path = teacher[:1] in ("/", ".", "~") or teacher.count("/") > 1
    return Path(teacher).name if is_path else teacher


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else None


def _shown(value: object, form: str) -> str:
    number = _number(value)
    return "–" if number is None else f"{number:{form}}"
