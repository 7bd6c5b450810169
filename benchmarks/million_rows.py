"""A million-row CSV preprocessed: time, rows a second, peak memory.

python benchmarks/million_rows.py [--rows 1000000] [--quick]

A row is two of the demonstration's real utterances (English or Hindi), and no two rows are alike.
Preprocessing is what `saarthi train` does first: read, normalize, split, augment,
trim the vocabulary, encode, check. It runs in a process of its own, whose peak resident memory is
measured.
"""

import argparse
import csv
import itertools
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

from common import machine, print_line, print_table

from saarthi_lib import logs, steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.read import ReadOptions, read_table
from saarthi_lib.demo.home_assistant import write_home_assistant


def main() -> None:
    """Write the file, preprocess it in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--teacher", default="multilingual-e5-small")
    parser.add_argument("--quick", action="store_true", help="the figures mean nothing")
    arguments = parser.parse_args()
    rows = 5_000 if arguments.quick else arguments.rows
    print_line(machine())
    if arguments.quick:
        print_line("a trial run: the figures mean nothing")
    with tempfile.TemporaryDirectory() as work:
        size = write_rows(Path(work) / "input", rows)
        reader, writer = multiprocessing.get_context("spawn").Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(
            target=_preprocess, args=(work, arguments.teacher, writer)
        )
        process.start()
        writer.close()
        seconds, peak = reader.recv()
        process.join()
    print_table(
        f"{rows:,} rows, {size / 1e6:.0f} MB of CSV, preprocessed",
        ["seconds", "rows a second", "peak resident memory, GB"],
        [[f"{seconds:.0f}", f"{rows / seconds:,.0f}", f"{peak / 1e9:.2f}"]],
    )


def write_rows(folder: Path, rows: int) -> int:
    """Write train.csv of `rows` rows; returns its bytes."""
    source = folder.with_name("source")
    write_home_assistant(source)
    table = read_table(source / "train.jsonl", ReadOptions("intent_classification"))
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


def _preprocess(work: str, teacher: str, writer: "multiprocessing.connection.Connection") -> None:
    logs.configure()
    config = TrainConfig.from_mapping(
        {
            "input_path": f"{work}/input",
            "root_output_path": "unused",
            "teacher_name": teacher,
        }
    )
    start = time.perf_counter()
    steps.preprocess(config, Path(work) / "data")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts kilobytes
    writer.send((time.perf_counter() - start, peak))


if __name__ == "__main__":
    main()
