"""Read, split and check data sets that were not prepared for Saarthi.

python benchmarks/data_sets.py [--data FOLDER] [--pages FOLDER]

For each set: rows by split, labels, languages, malformed rows, what the check found, seconds.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from common import machine, print_line, print_table

from saarthi_lib import logs
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.preprocess import prepare
from saarthi_lib.reports.data_check import write_check_report

# A set's configuration is all that its user writes.
SETS: dict[str, dict[str, Any]] = {
    "snips_en": {"task": "joint"},
    "hint3_sofmattress": {"task": "intent_classification", "unknown_labels": "keep"},
    "hinglish_top": {"task": "joint", "unknown_labels": "keep"},
    "il_ner_hindi": {"task": "ner", "unknown_labels": "keep", "language": "hindi"},
    "ud_marathi_ufal": {"task": "pos", "language": "marathi", "unknown_labels": "keep"},
    "ud_pud": {"task": "pos", "group_column": "sent_id"},
}


COLUMNS = (
    *("set", "task", "train / validation / test", "labels", "tags", "languages"),
    *("rows left out", "findings", "seconds"),
)


def main() -> None:
    """Read, split and check each set, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--pages", type=Path, help="where the pages of the checks go")
    arguments = parser.parse_args()
    logs.configure()
    print_line(machine())
    rows = []
    for name in arguments.sets:
        fields = SETS[name]
        if not (arguments.data / name).is_dir():
            print_line(f"{name}: skipped, there is no {arguments.data / name}")
            continue
        config = TrainConfig.from_mapping(
            {**fields, "input_path": str(arguments.data / name)}
            | {"augmentation_size": 0, "teacher_name": "minilm", "max_seq_len": 64}
        )
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            summary, check = prepare(config, Path(scratch))
        if arguments.pages:
            arguments.pages.mkdir(parents=True, exist_ok=True)
            write_check_report(arguments.pages / f"{name}.html", check)
        found = Counter(finding.severity for finding in check.findings)
        rows.append(
            [
                name,
                config.task,
                " / ".join(str(summary["rows"][s]) for s in ("train", "validation", "test")),
                str(summary["labels"]["sequence"]),
                str(summary["labels"]["token"]),
                ", ".join(summary["languages"]["train"]),
                str(summary["left_out"]["malformed rows"]),
                ", ".join(f"{count} {severity}s" for severity, count in found.items()),
                f"{time.perf_counter() - start:.1f}",
            ]
        )
    print_table(
        "Data sets as they come",
        COLUMNS,
        rows,
    )


if __name__ == "__main__":
    main()
