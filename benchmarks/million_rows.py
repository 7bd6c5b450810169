"""Measure the preprocessing of a million rows of CSV: time and peak memory.

python benchmarks/million_rows.py [--rows 1000000] [--quick]

A row joins two real utterances of the demonstration (English or Hindi); all rows differ. The first
step of `saarthi train` reads, normalizes, splits, augments, trims the vocabulary, encodes and
checks them, in a process of its own.
"""

import csv
import itertools
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from common import begin, parser_of, print_table

from saarthi_lib import logs, steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.read import read_table
from saarthi_lib.demo.home_assistant import write_home_assistant


def main() -> None:
    """Write the file, preprocess it, and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="(%(default)s)")
    parser.add_argument("--teacher", default="multilingual-e5-small", help="(%(default)s)")
    options = begin(parser)
    rows = 5_000 if options.quick else options.rows
    with tempfile.TemporaryDirectory() as work:
        size = write_rows(Path(work) / "input", rows)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            seconds, peak = pool.submit(preprocess, work, options.teacher).result()
    print_table(
        f"{rows:,} rows, {size / 1e6:.0f} MB of CSV, preprocessed",
        ["seconds", "rows a second", "peak resident memory, GB"],
        [[f"{seconds:.0f}", f"{rows / seconds:,.0f}", f"{peak / 1e9:.2f}"]],
    )


def write_rows(folder: Path, rows: int) -> int:
    """Write train.csv with this many rows; returns its size in bytes."""
    source = folder.with_name("source")
    write_home_assistant(source)
    table = read_table(source / "train.jsonl", TrainConfig(normalization="none"))
    by_language = [list(part.itertuples()) for _, part in table.groupby("lang")]
    pairs = itertools.chain.from_iterable(
        zip(part, part[shift:] + part[:shift], strict=True)
        for shift in itertools.count(1)
        for part in by_language
    )
    folder.mkdir()
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "lang"])
        for first, second in itertools.islice(pairs, rows):
            writer.writerow([f"{first.text} {second.text}", first.label, first.lang])
    return (folder / "train.csv").stat().st_size


def preprocess(work: str, teacher: str) -> tuple[float, int]:
    """Preprocess the file; returns seconds, and the peak memory in bytes."""
    logs.configure()
    fields = {"input_path": f"{work}/input", "root_output_path": "unused", "teacher_name": teacher}
    start = time.perf_counter()
    steps.preprocess(TrainConfig.from_mapping(fields), Path(work) / "data")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux reports kilobytes
    return time.perf_counter() - start, peak


if __name__ == "__main__":
    main()
