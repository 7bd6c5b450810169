"""Small files that describe gigabytes are refused before they are unpacked."""

import json
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.expansion import ParquetReader, arrow_rows
from saarthi_lib.data.expansion.arrow import expanded
from saarthi_lib.data.read import read_table
from saarthi_lib.errors import DataError
from tests.test_cli import saarthi
from tests.tiny_bundle import write_tiny_bundle

MEGABYTE = 1_000_000
CONFIG = TrainConfig(normalization="none")
TAGS = TrainConfig(task="ner", normalization="none")


def same(value: str, rows: int) -> pa.DictionaryArray:
    """A column with the same value in each row."""
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value]))


def lists(values: pa.Array, length: int) -> pa.ListArray:
    offsets = np.arange(len(values) // length + 1, dtype=np.int32) * length
    return pa.ListArray.from_arrays(pa.array(offsets), values)


LARGE_PAGES = {"dictionary_pagesize_limit": 1 << 24}
DELTA = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}
DELTA_LISTS = {**DELTA, "column_encoding": {"tags.list.element": "DELTA_BYTE_ARRAY"}}


def one_list(values: pa.Array) -> dict[str, Any]:
    return {"text": pa.array(["a"]), "tags": lists(values, len(values))}


def plain(rows: int) -> pa.Array:
    return pa.array(["x" * MEGABYTE] * rows)


# Name → columns, made when a test needs them, and options of the writer.
BOMBS: dict[str, tuple[Callable[[], dict[str, Any]], dict[str, Any]]] = {
    "one long value in many rows": (lambda: {"text": same("x" * MEGABYTE, 3000)}, LARGE_PAGES),
    "short values in more rows": (lambda: {"text": same("x" * 10_000, 30_000)}, {}),
    "numbers in very many rows": (lambda: {"text": zeros(9 * MEGABYTE)}, {}),
    "no values in very many rows": (lambda: {"text": pa.nulls(9 * MEGABYTE, pa.string())}, {}),
    "long lists of long values": (lambda: one_list(same("B-" + "x" * 1000, MEGABYTE)), {}),
    "lists of very many values": (lambda: one_list(same("O", 9 * MEGABYTE)), {}),
    "values without a dictionary": (lambda: {"text": plain(270)}, {"use_dictionary": False}),
    "values that repeat the one before": (lambda: {"text": plain(270)}, DELTA),
    "lists that repeat the value before": (lambda: one_list(plain(270)), DELTA_LISTS),
    "many groups of rows": (lambda: {"text": same("x" * 60_000, 6000)}, {"row_group_size": 100}),
}


def zeros(rows: int) -> pa.Array:
    return pa.array(np.zeros(rows, np.int8))


def write(path: Path, columns: dict[str, Any], options: dict[str, Any]) -> Path:
    rows = len(next(iter(columns.values())))
    given = {"label": same("a", rows), **columns}
    parquet.write_table(pa.table(given), path, **{"compression": "zstd", **options})
    return path


@pytest.mark.parametrize(
    ("name", "version"),
    [
        *((name, "1.0") for name in BOMBS),
        ("one long value in many rows", "2.0"),
        ("lists of very many values", "2.0"),
        ("values that repeat the one before", "2.0"),
    ],
)
def test_parquet_bombs_are_refused(tmp_path: Path, name: str, version: str) -> None:
    make, options = BOMBS[name]
    columns = make()
    path = write(tmp_path / "train.parquet", columns, {"data_page_version": version, **options})
    assert path.stat().st_size < 500_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        DataError, match=r"train\.parquet: (\d+ bytes expand to more than|the list)"
    ):
        read_table(path, TAGS if "tags" in columns else CONFIG)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 700_000  # KB; half of it is the growth of Arrow's pool


def test_answered_tables_are_limited_too(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", runtime="onnxruntime")
    make, options = BOMBS["one long value in many rows"]
    path = write(tmp_path / "rows.parquet", make(), options)
    for command in (("predict", str(bundle), "--file"), ("evaluate", str(bundle))):
        done = saarthi(*command, str(path))
        assert done.returncode == 2 and "expand to more than" in done.stderr


def test_false_footers_do_not_help(tmp_path: Path) -> None:
    """The footer's count of values is changed from 9,000,000 to 1."""
    path = write(
        tmp_path / "a.parquet", {"text": zeros(9 * MEGABYTE)}, {"row_group_size": 9 * MEGABYTE}
    )
    content = path.read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - size : -8]
    # Thrift writes 2 * n in groups of seven bits, the lowest first.
    number = bytes(
        (18 * MEGABYTE >> 7 * part & 127) | (128 if part < 3 else 0) for part in range(4)
    )
    short = bytes([0x82, 0x80, 0x80, 0x00])
    assert footer.count(number) > 1
    path.write_bytes(content[: -8 - size] + footer.replace(number, short) + content[-8:])
    with pytest.raises(DataError, match="expand to more than"):
        read_table(path, CONFIG)


@pytest.mark.parametrize("head", [b"\x19\xf0", b"\x1a\xf0", b"\x1b"], ids=["list", "set", "map"])
def test_false_numbers_of_elements_end_at_once(tmp_path: Path, head: bytes) -> None:
    """A page header claims 2²⁸ elements of a type that takes no bytes."""
    columns = {"text": pa.array([f"a rather long text {row}" for row in range(50)])}
    path = write(tmp_path / "a.parquet", columns, {"use_dictionary": False})
    start = parquet.read_metadata(path).row_group(0).column(1).data_page_offset
    content = bytearray(path.read_bytes())
    made = head + b"\xff\xff\xff\x7f" + bytes(8)
    content[start : start + len(made)] = made
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet: .*unknown type"):
        read_table(path, CONFIG)


_texts = st.one_of(st.none(), st.text(max_size=9), st.sampled_from(["a", "b" * 5000]))


@settings(max_examples=40)
@given(
    rows=st.lists(st.tuples(_texts, st.lists(_texts, max_size=4), st.integers(-9, 9)), max_size=60),
    version=st.sampled_from(["1.0", "2.0"]),
    compression=st.sampled_from(["none", "snappy", "gzip", "zstd", "brotli", "lz4"]),
    dictionary=st.booleans(),
    page=st.sampled_from([10, 1 << 20]),
)
def test_usual_files_are_read_whole(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Any],
    version: str,
    compression: str,
    dictionary: bool,
    page: int,
) -> None:
    path = tmp_path_factory.mktemp("usual") / "rows.parquet"
    schema = pa.schema([("t", pa.string()), ("l", pa.list_(pa.string())), ("n", pa.int64())])
    table = pa.Table.from_pylist([dict(zip("tln", row, strict=True)) for row in rows], schema)
    parquet.write_table(
        table,
        path,
        data_page_version=version,
        compression=compression,
        use_dictionary=dictionary,
        data_page_size=page,
        row_group_size=17,
        write_page_checksum=True,
    )
    with ParquetReader(path) as file:
        assert file.table().equals(table)
    with ParquetReader(path) as file:
        assert [row for batch in file.batches(["l"], 7) for row in batch.to_pylist()] == [
            {"l": row[1]} for row in rows
        ]


def test_long_values_within_the_limit_are_read(tmp_path: Path) -> None:
    columns = {
        "text": same("x" * MEGABYTE, 100).cast(pa.string()),
        "tags": lists(pa.array(["y" * 50_000] * 2000), 20),
    }
    path = write(tmp_path / "rows.parquet", columns, LARGE_PAGES)
    with ParquetReader(path) as file:
        [batch] = file.batches()
    assert batch.schema.field("text").type == pa.string()
    assert batch.column("text").to_pylist() == ["x" * MEGABYTE] * 100
    assert batch.column("tags").to_pylist() == [["y" * 50_000] * 20] * 100


def arrow_folder(folder: Path, batch: pa.RecordBatch, *, file: bool, packed: str | None) -> Path:
    """A saved data set with one batch."""
    folder.mkdir(exist_ok=True)
    options = pa.ipc.IpcWriteOptions(compression=packed)
    make = pa.ipc.new_file if file else pa.ipc.new_stream
    path = folder / "train.arrow"
    with pa.OSFile(str(path), "wb") as sink, make(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return path


@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("packed", ["zstd", "lz4"])
def test_compressed_arrow_bombs_are_refused(tmp_path: Path, file: bool, packed: str) -> None:
    numbers = pa.array(np.zeros(20 * MEGABYTE, np.int64))
    batch = pa.record_batch({"text": numbers, "label": numbers})
    path = arrow_folder(tmp_path, batch, file=file, packed=packed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="expand to more than"):
        read_table(path, CONFIG)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


@pytest.mark.parametrize(
    "make",
    [
        lambda: pa.nulls(9 * MEGABYTE),
        lambda: same("x" * MEGABYTE, 3000),
        lambda: pa.FixedSizeListArray.from_arrays(pa.nulls(9 * MEGABYTE), 9),
        lambda: pa.RunEndEncodedArray.from_arrays(pa.array([1 << 30], pa.int32()), ["x"]),
    ],
    ids=["nulls", "dictionary", "lists of nulls", "runs"],
)
def test_arrow_values_are_counted(tmp_path: Path, make: Callable[[], pa.Array]) -> None:
    path = arrow_folder(tmp_path, pa.record_batch({"text": make()}), file=False, packed=None)
    with pytest.raises(DataError, match=r"expand to more than|not supported"):
        for _ in arrow_rows(path):
            pass


def test_compressed_arrow_files_are_read(tmp_path: Path) -> None:
    texts = [f"turn on light {number}" for number in range(3000)]
    batch = pa.record_batch({"text": texts, "label": ["a", "b", "c"] * 1000})
    for packed in (None, "zstd", "lz4"):
        for file in (False, True):
            path = arrow_folder(tmp_path, batch, file=file, packed=packed)
            assert read_table(path, CONFIG)["text"].tolist() == texts


@given(st.lists(st.one_of(st.none(), st.lists(st.text(max_size=5), max_size=4)), max_size=8))
def test_expanded_size_is_an_upper_bound(rows: list[list[str] | None]) -> None:
    batch = pa.record_batch({"a": pa.array(rows, pa.list_(pa.string()))})
    texts = [text.encode() for row in rows if row for text in row]
    size = expanded(batch.columns, 1 << 30)
    assert size == 32 * (len(rows) + len(texts)) + sum(map(len, texts))


SHEET = '<sheetData><row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>{}'
SHARED = (
    '<Override PartName="/xl/sharedStrings.xml" ContentType="application/'
    'vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/>'
)
CELL = '<row r="{}"><c r="A{}" t="s"><v>2</v></c><c r="B{}" t="s"><v>1</v></c></row>'


def workbook(path: Path, rows: str, texts: list[str], extra: bytes = b"") -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["text", "label"])
    book.save(path.with_name("plain.xlsx"))
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    shared = "".join(f"<si><t>{text}</t></si>" for text in texts)
    with (
        zipfile.ZipFile(path.with_name("plain.xlsx")) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for entry in plain.infolist():
            content: bytes | str = plain.read(entry)
            if entry.filename == "xl/worksheets/sheet1.xml":
                body = SHEET.format(rows) + "</sheetData>"
                content = f'<worksheet xmlns="{main}">{body}</worksheet>'
            if entry.filename == "[Content_Types].xml":
                content = plain.read(entry).decode().replace("</Types>", f"{SHARED}</Types>")
            made.writestr(entry.filename, content)
        made.writestr("xl/sharedStrings.xml", f'<sst xmlns="{main}">{shared}</sst>')
        if extra:
            made.writestr("xl/media/image1.png", extra)
    return path


@pytest.mark.parametrize(
    ("rows", "text", "extra"),
    [
        (CELL.format(*["1000000000000"] * 3), "a", b""),
        ("".join(CELL.format(n, n, n) for n in range(2, 400)), "x" * MEGABYTE, b""),
        (CELL.format(2, 2, 2), "a", bytes(300 << 20)),
    ],
    ids=["missing rows", "one text in many cells", "a large file inside"],
)
def test_workbook_bombs_are_refused(tmp_path: Path, rows: str, text: str, extra: bytes) -> None:
    path = workbook(tmp_path / "train.xlsx", rows, ["text", "label", text], extra)
    with pytest.raises(DataError, match=r"train\.xlsx: .*(expand to more than|more than \d+ rows)"):
        read_table(path, CONFIG)


@pytest.mark.parametrize(
    ("name", "element"),
    [
        ("xl/styles.xml", "<xf/>"),
        ("xl/workbook.xml", '<definedName name="a"/>'),
        ("xl/sharedStrings.xml", "<si><t>a</t></si>"),
    ],
)
def test_workbooks_of_many_objects_are_refused(tmp_path: Path, name: str, element: str) -> None:
    """Small elements become large objects when openpyxl opens the file."""
    path = tmp_path / "train.xlsx"
    plain = workbook(tmp_path / "usual.xlsx", CELL.format(2, 2, 2), ["text", "label", "turn on"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        zipfile.ZipFile(plain) as usual,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for entry in usual.infolist():
            content = usual.read(entry)
            if entry.filename == name:
                content += element.encode() * (40 * MEGABYTE // len(element))
            made.writestr(entry.filename, content)
    assert path.stat().st_size < MEGABYTE
    with pytest.raises(DataError, match=r"train\.xlsx: .*expand to more than"):
        read_table(path, CONFIG)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


def test_workbook_of_shared_texts_is_read(tmp_path: Path) -> None:
    rows = "".join(CELL.format(n, n, n) for n in range(2, 5))
    path = workbook(tmp_path / "train.xlsx", rows, ["text", "label", "turn on"])
    assert read_table(path, CONFIG)["text"].tolist() == ["turn on"] * 3


def test_deep_json_of_a_run_is_an_error_without_traceback(tmp_path: Path) -> None:
    for name in ("run.json", "metrics.json"):
        run = tmp_path / name.removesuffix(".json")
        run.mkdir()
        for other in ("run.json", "metrics.json"):
            (run / other).write_text(json.dumps({"config": {}}), encoding="utf-8")
        (run / name).write_text("[" * 200_000, encoding="utf-8")
        done = saarthi("compare", str(run), str(run))
        assert done.returncode == 2 and "nested too deeply" in done.stderr
        assert str(run / name) in done.stderr.replace("\n", "")
