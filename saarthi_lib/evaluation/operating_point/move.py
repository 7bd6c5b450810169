"""Write a bundle again with other thresholds, and show their effect on labelled rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypedDict

import pandas as pd

from saarthi_lib.addresses import local_path
from saarthi_lib.bundle import BundleManifest, write_bundle
from saarthi_lib.bundle.manifest import TRAINING_CONFIG
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.data.read import Problem
from saarthi_lib.errors import DataError, InputError, StorageError
from saarthi_lib.evaluation.abstention import ROWS
from saarthi_lib.evaluation.evaluate import predict_table
from saarthi_lib.evaluation.operating_point.effect import ALL, Effect, Point, curve, effects
from saarthi_lib.evaluation.operating_point.judged import Judged
from saarthi_lib.evaluation.operating_point.target import Target, threshold_for
from saarthi_lib.evaluation.selective import coverage_interval
from saarthi_lib.evaluation.selective_metrics import selective_metrics
from saarthi_lib.evaluation.tabular.columns import training_fields
from saarthi_lib.evaluation.tabular.evaluate import read_labelled
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.layout import RunLayout, is_run
from saarthi_lib.storage import write_json
from saarthi_lib.text.language_names import UNKNOWN_LANGUAGE, language_name

# Metrics in `bundle.json` that hold for the thresholds they were measured at.
_AT_THRESHOLD = (
    *("coverage", "risk", "lost", "answered_main", "reasons", "out_of_scope"),
    *("expected_coverage", "language_thresholds"),
)


class Thresholds(TypedDict):
    """Thresholds of a bundle: of the languages that have their own, and of all others."""

    threshold: float | None
    language_thresholds: dict[str, float]


@dataclass
class Moved:
    """Thresholds before and after, and their effect.

    Attributes:
        source: bundle that was read.
        bundle: bundle that was written; None if no threshold was asked for.
        target: target of the new threshold, such as `risk 0.05`; None as for `bundle`.
        before, after: thresholds of the two bundles.
        rows: labelled rows of the curves and of the expected coverage: a file or a split.
        chosen_on: rows that the threshold was chosen on; None for a value.
        measured_on: rows that the effect was measured on; None without rows.
        expected_coverage: share of new texts that are answered, if they are like the rows: a 95%
            interval.
        effect: effect on all texts, and by language.
        curves: answers at each threshold, by the language whose threshold was chosen, or `all`.
        left_out: number of malformed rows of the file, which do not count.
    """

    source: Path
    bundle: Path | None
    target: str | None
    before: Thresholds
    after: Thresholds
    rows: str | None = None
    chosen_on: str | None = None
    measured_on: str | None = None
    expected_coverage: tuple[float, float] | None = None
    effect: list[Effect] = field(default_factory=list)
    curves: dict[str, list[Point]] = field(default_factory=dict)
    left_out: int = 0


class _Rows(NamedTuple):
    """Labelled rows to choose a threshold on, and others to measure it on."""

    chosen_on: Judged
    measured_on: Judged
    test: pd.DataFrame | None = None  # of the bundle's own run
    left_out: int = 0  # malformed rows


def show_threshold(bundle: Path, file: Path | None = None, **fields: Any) -> Moved:
    """Show the effect of a bundle's thresholds, and the curve of all thresholds.

    Args:
        bundle: the bundle's folder.
        file: labelled rows; None: those of the run that the bundle is in.
        fields: fields of the data section for the file, such as `label_column`.

    Raises:
        BundleError: the bundle cannot be used.
        DataError: the file cannot be read, or the bundle needs one.
    """
    predictor = Predictor.load(local_path(bundle, "bundle"))
    rows = _labelled(predictor, bundle, file, fields)
    if rows is None:
        raise _needs_rows(bundle, "the curve")
    now = _thresholds(predictor.manifest)
    return Moved(
        bundle,
        None,
        None,
        now,
        now,
        rows=rows.chosen_on.name,
        measured_on=rows.measured_on.name,
        effect=effects(rows.measured_on, predictor.manifest, predictor.manifest),
        curves={ALL: curve(rows.chosen_on)},
        left_out=rows.left_out,
    )


def move_threshold(
    bundle: Path,
    target: Target,
    file: Path | None = None,
    *,
    languages: Sequence[str] = (),
    output: Path | None = None,
    **fields: Any,
) -> Moved:
    """Write a bundle again with the threshold that meets a target; the old one stays as it is.

    Without labelled rows, only a value can be set.

    Args:
        bundle: the bundle's folder.
        target: target of the threshold.
        file: labelled rows; None: those of the run that the bundle is in: the threshold is chosen
            on validation, and its effect measured on test.
        languages: languages that get their own threshold, each chosen on its own rows; empty: one
            threshold for all languages, in place of any that they have.
        output: folder to write; None: a free name beside the old bundle.
        fields: fields of the data section for the file, such as `label_column`.

    Raises:
        BundleError: the bundle cannot be used.
        DataError: the file cannot be read, or its rows cannot support the target.
        InputError: a language is unknown.
        StorageError: the folder to write exists.
    """
    bundle = local_path(bundle, "bundle")
    predictor = Predictor.load(bundle)
    before = predictor.manifest
    target_folder = _free_folder(bundle, before, output)
    rows = _labelled(predictor, bundle, file, fields)
    if rows is None and target.kind != "value":
        raise _needs_rows(bundle, f"a threshold by {target.kind}")
    names = [_known(name, before, rows) for name in dict.fromkeys(languages)]
    wanted: list[str | None] = [*names] or [None]
    chosen = {name: _choose(target, rows, name) for name in wanted}
    after = _with_thresholds(before, chosen)
    moved = Moved(bundle, target_folder, str(target), _thresholds(before), _thresholds(after))
    if rows is not None:
        moved.rows = rows.chosen_on.name
        moved.chosen_on = moved.rows if target.kind != "value" else None
        moved.measured_on, moved.left_out = rows.measured_on.name, rows.left_out
        moved.effect = effects(rows.measured_on, before, after)
        parts = {name or ALL: rows.chosen_on.of_language(name) for name in chosen}
        moved.curves = {name: curve(part) for name, part in parts.items()}
        after = replace(after, expected_coverage=_expected(rows.chosen_on, after))
        moved.expected_coverage = after.expected_coverage
    made_by = {**before.made_by, "threshold": _origin(before, moved, names)}
    metrics = _metrics(predictor, after, rows)
    _write(predictor, bundle, replace(after, metrics=metrics, made_by=made_by), target_folder)
    return moved


def _write(predictor: Predictor, bundle: Path, manifest: BundleManifest, target: Path) -> None:
    """Write the files of a bundle again with another manifest, as the next version."""
    number = int(manifest.version) + 1 if manifest.version.isdecimal() else 1
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with TemporaryDirectory(prefix="saarthi-threshold-") as folder:
        config = Path(folder) / TRAINING_CONFIG
        # Publishing may number a bundle without a given version.
        write_json(config, {**training_fields(predictor), "bundle_version": ""})
        files = {name: bundle / name for name in manifest.files} | {TRAINING_CONFIG: config}
        renewed = replace(manifest, version=str(number), created=now)
        write_bundle(target, files=files, manifest=renewed)


def _labelled(
    predictor: Predictor, bundle: Path, file: Path | None, fields: dict[str, Any]
) -> _Rows | None:
    """Answer the labelled rows of a file, or of the run that a bundle is in; None without any."""
    if file is not None:
        problems: list[Problem] = []
        table = read_labelled(predictor, file, problems, **fields)
        judged = Judged.of(predictor, table, file.name)
        left_out = len({problem.sentence for problem in problems if problem.left_out})
        return _Rows(judged, judged, left_out=left_out)
    root = bundle.absolute().parent
    prepared = Prepared(RunLayout.of(root).data)
    if not (is_run(root) and prepared.has("validation") and prepared.has("test")):
        return None
    if prepared.labels != predictor.labels:
        raise DataError(
            f"{prepared.folder}: has other labels than {bundle}, so the bundle is not of this run; "
            "give a labelled file"
        )
    validation, test = prepared.table("validation"), prepared.table("test")
    name = "validation"
    if len(validation) > ROWS:
        validation, name = validation.sample(ROWS, random_state=0), f"{ROWS} rows of validation"
    outside = prepared.out_of_scope
    if len(outside):
        validation = pd.concat([validation, outside], ignore_index=True)
    return _Rows(Judged.of(predictor, validation, name), Judged.of(predictor, test, "test"), test)


def _needs_rows(bundle: Path, what: str) -> DataError:
    return DataError(
        f"{bundle}: {what} needs labelled rows, and the bundle is not in the folder of a run that "
        "keeps its data; give a labelled file"
    )


def _known(given: str, manifest: BundleManifest, rows: _Rows | None) -> str:
    """Full name of a language of the bundle or of the rows.

    Raises:
        InputError: it is of neither.
    """
    name = language_name(given)
    known = {*manifest.languages, *manifest.language_thresholds}
    known |= set(rows.chosen_on.languages) if rows else set()
    known.discard(UNKNOWN_LANGUAGE)  # no request names it
    if name not in known:
        near = get_close_matches(name, sorted(known), n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(
            f"language {given!r}: neither the bundle nor the rows have it{hint}; there are "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    return name


def _choose(target: Target, rows: _Rows | None, language: str | None) -> float:
    if rows is None:
        return target.number
    judged = rows.chosen_on.of_language(language)
    if language is not None:
        judged = replace(judged, name=f"{judged.name}: {language}")
    return threshold_for(target, judged)


def _with_thresholds(before: BundleManifest, chosen: Mapping[str | None, float]) -> BundleManifest:
    own = {language: value for language, value in chosen.items() if language is not None}
    threshold = chosen.get(None, before.threshold)
    merged = {**before.language_thresholds, **own} if own else {}
    return replace(
        before,
        threshold=threshold,
        language_thresholds=dict(sorted(merged.items())),
        expected_coverage=None,
    )


def _thresholds(manifest: BundleManifest) -> Thresholds:
    return {
        "threshold": manifest.threshold,
        "language_thresholds": dict(manifest.language_thresholds),
    }


def _expected(judged: Judged, manifest: BundleManifest) -> tuple[float, float] | None:
    [found, *_] = effects(judged, manifest, manifest)
    return coverage_interval(found["after"]["answered"], found["texts"]) if found["texts"] else None


def _metrics(predictor: Predictor, after: BundleManifest, rows: _Rows | None) -> dict[str, Any]:
    """Metrics of the new bundle; those that depend on the threshold are measured on test."""
    metrics = dict(predictor.manifest.metrics)
    measured = metrics.get("calibration")
    if rows is not None and rows.test is not None:
        moved = predictor.with_thresholds(after)
        metrics["calibration"] = selective_metrics(
            moved, rows.test, *predict_table(moved, rows.test)
        )
    elif isinstance(measured, dict):
        kept = {name: value for name, value in measured.items() if name not in _AT_THRESHOLD}
        metrics["calibration"] = {**kept, "threshold": after.threshold}
    return metrics


def _origin(before: BundleManifest, moved: Moved, languages: Sequence[str]) -> dict[str, Any]:
    """Record of the change for `made_by`: the old bundle, and how the threshold was chosen."""
    return {
        "target": moved.target,
        "languages": list(languages),
        "rows": moved.chosen_on,
        "version": before.version,
        "digest": before.digest,
        **moved.before,
    }


def _free_folder(bundle: Path, manifest: BundleManifest, output: Path | None) -> Path:
    """Folder for the new bundle, which must not exist.

    Raises:
        StorageError: the given folder exists, or the bundle is a published version.
    """
    if output is not None:
        if output.exists() or output.is_symlink():
            raise StorageError(f"{output}: exists already; choose another folder for the bundle")
        return output
    whole = bundle.absolute()
    if (whole.parent.name, whole.name) == (manifest.name, manifest.version):
        raise StorageError(
            f"{bundle}: is a published version, and its folder is for published ones; name another "
            "folder with --output, and publish the bundle from there"
        )
    number = 2
    while (folder := bundle.with_name(f"{whole.name}-{number}")).exists():
        number += 1
    return folder
