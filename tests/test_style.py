"""Style of the code base: sizes of files, functions and folders, test names, plain English."""

import ast
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES_OF_FILE = 400
LINES_OF_FUNCTION = 60
LINES_OF_FOLDER = 2500  # of a folder of saarthi_lib, without its subfolders
MODULES = 10  # directly in saarthi_lib
TEST_NAME = 60  # characters
HARD_PHRASES = 2  # per 1,000 words of comments and docstrings

# Hard constructions of a sentence. Non-native readers have to read them twice.
HARD = {
    "clause as subject or object": re.compile(
        r"^(?:what|whatever|whichever)\s(?!.*\?$)"
        r"|(?<!^)\bwhat\s+(?:is|are|was|were|has|have|can|may|must|it|they|the|a)\b(?!.*\?$)",
        re.IGNORECASE,
    ),
    "fragment": re.compile(
        r"^(?:Of(?! course)|By(?! default| then| [a-z]+ing))\s|^\w+:\s+of\s",
    ),
    "negation by no": re.compile(
        r"\b(?:is|are|was|were|be|has|have|had)\s+(?:no|none)\b(?! longer| more)", re.IGNORECASE
    ),
    "word outside the field's vocabulary": re.compile(
        r"\b(?:mend(?:s|ed|ing)?|tells?|told|held against|held beside|keeps? silent|silence"
        r"|further pieces|figures|goes on from|by hand|at hand|made again|seldom|nobody|so many)\b",
        re.IGNORECASE,
    ),
}
CODE = re.compile(r"``[^`]+``|`[^`]+`|\"[^\"]*\"|https?://\S+")
SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|(?<=:)\s+(?=[A-Z])")


def tracked(pattern: str) -> list[Path]:
    """Files of the repository that match the pattern."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", pattern]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [path for name in filter(None, names.split("\0")) if (path := ROOT / name).is_file()]


SOURCES = {path: path.read_text(encoding="utf-8") for path in tracked("*.py")}
PRODUCT = {
    path: text for path, text in SOURCES.items() if path.relative_to(ROOT).parts[0] != "tests"
}


def functions_of(text: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods of a module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def large_files() -> list[str]:
    """Files outside tests with too many lines."""
    sizes = {path: text.count("\n") for path, text in PRODUCT.items()}
    return [f"{path}: {size} lines" for path, size in sizes.items() if size > LINES_OF_FILE]


def long_functions() -> list[str]:
    """Functions outside tests with too many lines, docstrings included."""
    found = []
    for path, text in PRODUCT.items():
        for function in functions_of(text):
            length = (function.end_lineno or 0) - function.lineno + 1
            if length > LINES_OF_FUNCTION:
                found.append(f"{path}:{function.lineno}: {function.name} has {length} lines")
    return found


def full_folders() -> list[str]:
    """Folders of the library with too many lines."""
    lines: Counter[Path] = Counter()
    for path, text in PRODUCT.items():
        if path.is_relative_to(ROOT / "saarthi_lib"):
            lines[path.parent] += text.count("\n")
    return [f"{folder}: {size} lines" for folder, size in lines.items() if size > LINES_OF_FOLDER]


def loose_modules() -> list[str]:
    """Modules directly in the library, if there are too many."""
    modules = [
        path.name
        for path in PRODUCT
        if path.parent == ROOT / "saarthi_lib" and path.name != "__init__.py"
    ]
    return modules if len(modules) > MODULES else []


def long_test_names() -> list[str]:
    """Tests whose name has too many characters."""
    return [
        f"{path}:{function.lineno}: {function.name}"
        for path in tracked("tests/*.py")
        for function in functions_of(SOURCES[path])
        if function.name.startswith("test_") and len(function.name) > TEST_NAME
    ]


@pytest.mark.parametrize(
    "violations",
    [
        large_files,
        long_functions,
        full_folders,
        loose_modules,
        long_test_names,
    ],
    ids=lambda find: find.__name__,
)
def test_limit_is_kept(violations: Callable[[], list[str]]) -> None:
    found = violations()

    assert not found, "\n".join(found)


def prose_of(text: str) -> Iterator[str]:
    """Paragraphs of the comments and docstrings of a module."""
    comments: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                comments.append("")
            last = token.start[0]
            comments.append(token.string.lstrip("#: "))
    yield from paragraphs(comments)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from paragraphs((ast.get_docstring(node) or "").splitlines())


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Join lines up to an empty line or an entry of `Args` or of a list."""
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if not line.strip() or re.match(r"\s*(?:-\s|[\w*, ]+:\s)", line):
            if paragraph:
                yield " ".join(paragraph)
            paragraph = []
        if line.strip():
            paragraph.append(line.strip())


def hard_phrases(paragraph: str) -> list[str]:
    """Hard constructions of a paragraph, each with its sentence."""
    sentences = SENTENCE_END.split(CODE.sub("CODE", paragraph))
    return [
        f"{name}: {sentence}"
        for sentence in sentences
        for name, pattern in HARD.items()
        for _ in pattern.finditer(sentence)
    ]


@pytest.mark.parametrize(
    ("sentence", "hard"),
    [
        ("What is served is verified before loading.", True),
        ("Bundles are verified before loading.", False),
        ("The report shows what it costs.", True),
        ("What does a bundle contain?", False),
        ("data: of `preprocess`.", True),
        ("data: folder written by `preprocess`.", False),
        ("By default, the runtime of the manifest.", False),
        ("The value is no mapping.", True),
        ("The value is not a mapping.", False),
        ("The student keeps silent.", True),
        ("The field `figures` has the metrics.", False),
    ],
)
def test_checker_finds_hard_phrases(sentence: str, hard: bool) -> None:
    assert bool(hard_phrases(sentence)) == hard


def test_comments_and_docstrings_are_plain_english() -> None:
    words, found = 0, []
    for path, text in SOURCES.items():
        for paragraph in prose_of(text):
            words += len(paragraph.split())
            found += [f"{path.relative_to(ROOT)}: {phrase}" for phrase in hard_phrases(paragraph)]
    rate = 1000 * len(found) / words

    assert rate <= HARD_PHRASES, f"{rate:.1f} per 1,000 words\n" + "\n".join(found)
