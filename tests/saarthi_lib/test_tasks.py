import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from saarthi_lib.errors import BundleError
from saarthi_lib.tasks import HEADS, Labels, bio_spans, decode, decode_joint, decode_spans

MOST_SEARCHES = 5  # of best tags for a text
TAGS = ("O", "B-area", "I-area", "B-person", "I-person")
log_probs = st.integers(0, 5).flatmap(
    lambda words: arrays(np.float32, (words, len(TAGS)), elements=st.integers(-20, 0))
)
spans_of_ten_words = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(["area", "person"])),
    max_size=3,
)


def is_valid(tags: list[str]) -> bool:
    return all(
        before[2:] == tag[2:]
        for before, tag in itertools.pairwise(["O", *tags])
        if tag.startswith("I-")
    )


def score_of(scores: np.ndarray, path: tuple[int, ...], labels: Labels) -> float:
    """The sum of a path, with its transition costs."""
    before = (-1, *path)
    return float(
        sum(
            scores[word, tag] + labels.transitions[before[word], tag]
            for word, tag in enumerate(path)
        )
    )


counts = st.dictionaries(
    st.sampled_from(TAGS), st.dictionaries(st.sampled_from(TAGS), st.integers(0, 1000))
)


@given(log_probs)
def test_decoding_finds_the_best_valid_path(scores: np.ndarray) -> None:
    labels = Labels(token=TAGS)
    path = tuple(decode_spans(scores, labels))

    paths = itertools.product(range(len(TAGS)), repeat=len(scores))
    best = max(
        score_of(scores, tags, labels) for tags in paths if is_valid([TAGS[tag] for tag in tags])
    )
    assert is_valid([TAGS[tag] for tag in path])
    assert score_of(scores, path, labels) == best


@given(log_probs, counts)
def test_decoding_finds_the_best_path_with_transition_costs(
    scores: np.ndarray, following: dict[str, dict[str, int]]
) -> None:
    labels = Labels(token=TAGS, following=following)
    path = tuple(decode_spans(scores, labels))

    paths = list(itertools.product(range(len(TAGS)), repeat=len(scores)))
    valid = {tags: is_valid([TAGS[tag] for tag in tags]) for tags in paths}
    assert all(np.isfinite(score_of(scores, tags, labels)) == valid[tags] for tags in paths)
    assert valid[path]
    best = max(score_of(scores, tags, labels) for tags in paths)
    assert score_of(scores, path, labels) == pytest.approx(best, abs=1e-4)


SEEN = Labels(
    ("call", "lamp", "stop"),
    TAGS,
    slots=(("person",), ("area",), ()),
    rows=(8, 2, 0),
    following={"O": {"O": 20, "B-area": 5}, "B-area": {"I-area": 3, "O": 1}},
)


@given(arrays(np.float32, (3,), elements=st.integers(-20, 0)), log_probs)
def test_label_and_tags_are_the_best_combination(of_label: np.ndarray, of_tags: np.ndarray) -> None:
    label, path = decode_joint(of_label, of_tags, SEEN)

    def score(label: int, tags: tuple[int, ...]) -> float:
        assert SEEN.unseen is not None
        return float(of_label[label] + score_of(of_tags + SEEN.unseen[label], tags, SEEN))

    paths = list(itertools.product(range(len(TAGS)), repeat=len(of_tags)))
    best = max(score(label, tags) for label in range(3) for tags in paths)
    assert is_valid([TAGS[tag] for tag in path])
    assert score(label, tuple(path)) == pytest.approx(best, abs=1e-4)


@st.composite
def many_labels(draw: st.DrawFn) -> tuple[Labels, np.ndarray, np.ndarray]:
    """More labels and tags than are tried one by one, with any transitions and scores."""
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds = [f"k{number}" for number in range(draw(st.sampled_from([2, 30])))]
    tags = ("O", *(f"{half}-{kind}" for kind in kinds for half in "BI"))
    following: dict[str, dict[str, int]] = {}
    for _ in range(draw(st.sampled_from([0, 60, 3000]))):
        before, tag = chance.choice(tags, 2)
        following.setdefault(str(before), {})[str(tag)] = int(chance.integers(1, 40))
    most = draw(st.integers(0, len(kinds)))
    slots = tuple(
        tuple(map(str, chance.choice(kinds, chance.integers(0, most + 1), replace=False)))
        for _ in range(60)
    )
    rows = tuple(map(int, chance.integers(0, 100, 60)))
    labels = Labels(tuple(map(str, range(60))), tags, slots, rows, following)
    spread = draw(st.sampled_from([0.1, 1.0, 10.0]))
    of_label = chance.normal(size=60) * spread
    of_tags = chance.normal(size=(draw(st.sampled_from([1, 4, 17])), len(tags))) * spread
    of_tags[:, 0] += draw(st.sampled_from([0, 3]))
    if draw(st.booleans()):  # ties
        of_label, of_tags = np.round(of_label), np.round(of_tags)
    return labels, of_label.astype(np.float32), of_tags.astype(np.float32)


def best_of_each_label(
    labels: Labels, of_label: np.ndarray, of_tags: np.ndarray
) -> Iterator[tuple[float, float, int]]:
    """Score of the best combination with each label, by a full search of its own."""
    assert labels.unseen is not None
    for label, costs in enumerate(labels.unseen):
        score = of_tags[0] + costs + labels.transitions[-1].astype(np.float64)
        for word in of_tags[1:]:
            score = (score[:, None] + labels.transitions[:-1]).max(axis=0) + word + costs
        yield float(of_label[label] + score.max()), float(of_label[label]), -label


@settings(max_examples=40, deadline=None)
@given(many_labels())
def test_joint_answer_is_the_best_of_its_label(
    problem: tuple[Labels, np.ndarray, np.ndarray],
) -> None:
    labels, of_label, of_tags = problem
    label, path = decode_joint(of_label, of_tags, labels)

    assert labels.unseen is not None
    found = of_label[label] + score_of(of_tags + labels.unseen[label], tuple(path), labels)
    each = dict(enumerate(best_of_each_label(labels, of_label, of_tags)))
    with_best_tags = tuple(decode_spans(of_tags, labels))
    alone = score_of(of_tags, with_best_tags, labels) + of_label
    alone = alone + labels.unseen[:, list(with_best_tags)].sum(axis=1)
    assert is_valid([labels.token[tag] for tag in path])
    assert found == pytest.approx(each[label][0], abs=1e-4, rel=1e-5)
    assert found >= alone.max() - 1e-3 - 1e-5 * abs(found)


@settings(max_examples=40, deadline=None)
@given(many_labels(), st.integers(0, 2**32))
def test_likely_labels_of_many_are_searched_in_full(
    problem: tuple[Labels, np.ndarray, np.ndarray], seed: int
) -> None:
    labels, of_label, of_tags = problem
    likely = np.random.default_rng(seed).choice(len(of_label), 2, replace=False)
    of_label = of_label.clip(-30, 30)
    of_label[likely] += 1000
    label, path = decode_joint(of_label, of_tags, labels)

    assert labels.unseen is not None
    found = of_label[label] + score_of(of_tags + labels.unseen[label], tuple(path), labels)
    best = max(best_of_each_label(labels, of_label, of_tags))
    assert found == pytest.approx(best[0], abs=1e-3, rel=1e-5)


@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(1, 9))
def test_bounds_are_those_of_each_word(seed: int, most: int, words: int) -> None:
    chance = np.random.default_rng(seed)
    kinds = [f"k{number}" for number in range(60)]
    tags = ("O", *(f"{half}-{kind}" for kind in kinds for half in "BI"))
    slots = tuple(
        tuple(map(str, chance.choice(kinds, chance.integers(most // 2, most + 1), replace=False)))
        for _ in range(20)
    )
    labels = Labels(tuple(map(str, range(20))), tags, slots, (3,) * 20)
    scores = chance.normal(size=(words, len(tags))).astype(np.float32)

    assert labels.unseen is not None
    expected = [(scores + costs).max(axis=1).sum() for costs in labels.unseen]
    assert labels.bounds(scores) == pytest.approx(np.array(expected), abs=1e-4)


@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
def test_few_of_many_labels_are_searched(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(3)
    kinds = [f"k{number}" for number in range(100)]
    tags = ("O", *(f"{half}-{kind}" for kind in kinds for half in "BI"))
    slots = tuple(tuple(map(str, chance.choice(kinds, 4, replace=False))) for _ in range(1000))
    following = {"O": {tag: 9 for tag in tags if tag[0] != "I"}}
    labels = Labels(tuple(map(str, range(1000))), tags, slots, (20,) * 1000, following)
    searches = []

    def counted(scores: np.ndarray, labels: Labels) -> list[int]:
        searches.append(scores)
        return decode_spans(scores, labels)

    monkeypatch.setattr("saarthi_lib.tasks.decoding.decode_spans", counted)
    for words in (1, 12, 126):
        of_label = (spread * chance.normal(size=1000)).astype(np.float32)
        of_tags = (spread * chance.normal(size=(words, len(tags)))).astype(np.float32)
        decode_joint(of_label, of_tags, labels)
    assert len(searches) <= 3 * MOST_SEARCHES


def test_rare_transition_needs_a_high_score() -> None:
    following = {"O": {"O": 90, "B-area": 30}, "B-area": {"O": 10, "I-area": 30}}
    labels = Labels(token=TAGS, following=following)
    area = np.log([0.04, 0.9, 0.02, 0.02, 0.02])
    again = np.log([0.02, 0.5, 0.44, 0.02, 0.02])

    assert decode_spans(np.array([area, again]), labels) == [1, 2]
    assert decode_spans(np.array([area, area]), labels) == [1, 1]
    # Frequent transitions get no bonus.
    outside = np.log([0.44, 0.5, 0.02, 0.02, 0.02])
    assert decode_spans(np.array([outside]), labels) == [1]


def test_unseen_entity_overrules_only_an_uncertain_label() -> None:
    area = np.array([[-9.0, -0.1, -9.0, -9.0, -9.0]])

    assert decode_joint(np.array([-0.7, -0.8, -3.0]), area, SEEN) == (1, [1])
    # Ten rows are weak evidence: a confident network can give a new combination.
    assert decode_joint(np.array([-0.0, -9.0, -9.0]), area, SEEN) == (0, [1])
    assert decode_joint(np.array([-0.7, -0.8, -3.0]), area, Labels(SEEN.sequence, TAGS)) == (0, [1])


@given(log_probs)
def test_tags_without_bio_are_decoded_one_by_one(scores: np.ndarray) -> None:
    assert decode("pos", Labels(token=TAGS), None, scores) == (None, scores.argmax(axis=1).tolist())


@given(spans_of_ten_words)
def test_spans_to_tags_and_back_are_equal(gaps_and_lengths: list[tuple[int, int, str]]) -> None:
    spans, tags = [], []
    for gap, length, label in gaps_and_lengths:
        tags += ["O"] * gap
        spans.append((len(tags), len(tags) + length, label))
        tags += [f"B-{label}"] + [f"I-{label}"] * (length - 1)

    assert bio_spans(tags) == spans


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        (["I-area", "I-area"], [(0, 2, "area")]),
        (["B-area", "I-person"], [(0, 1, "area"), (1, 2, "person")]),
        (["B-area", "B-area"], [(0, 1, "area"), (1, 2, "area")]),
        (["O", "I-area", "O"], [(1, 2, "area")]),
        (["B-time-of-day", "I-time-of-day"], [(0, 2, "time-of-day")]),
        ([], []),
    ],
)
def test_stray_tag_opens_a_span_and_touching_spans_stay(
    tags: list[str], spans: list[tuple[int, int, str]]
) -> None:
    assert bio_spans(tags) == spans


def test_labels_are_read_as_written(tmp_path: Path) -> None:
    slots = (("area",), ("area", "person"))
    labels = Labels(
        sequence=("अलार्म", "lights"),
        token=TAGS,
        slots=slots,
        rows=(3, 0),
        following={"O": {"O": 2, "B-area": 1}},
    )
    labels.save(tmp_path / "labels.json")

    assert Labels.load(tmp_path / "labels.json") == labels


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"sequence": []}',
        '{"sequence": [1], "token": []}',
        '{"sequence": ["a"], "token": ["O"], "slots": [["b"]]}',
        '{"sequence": ["a"], "token": ["O"], "slots": [["b"]], "rows": [-1]}',
        '{"sequence": ["a"], "token": ["O"], "slots": [["b"], []], "rows": [1, 1]}',
        '{"sequence": ["a"], "token": ["O"], "slots": 3, "rows": [1]}',
        '{"sequence": ["a"], "token": ["O"], "following": ["O"]}',
        '{"sequence": ["a"], "token": ["O"], "following": {"O": {"B-a": 1}}}',
        '{"sequence": ["a"], "token": ["O"], "following": {"O": {"O": 0.5}}}',
    ],
)
def test_unreadable_labels_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)

    with pytest.raises(BundleError, match=r"labels\.json"):
        Labels.load(path)


def test_every_task_has_a_head() -> None:
    assert all(set(heads) <= {"sequence", "token"} and heads for heads in HEADS.values())
