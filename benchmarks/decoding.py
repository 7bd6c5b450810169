"""Measure joint decoding of a label and tags, on one core.

python benchmarks/decoding.py [--quick]

Texts of 12 words, 1,000 labels, 100 kinds of entities; CPU time of one call. Each label has up to
six random kinds. The transitions occur never, as in rows made from the labels, or at random. A
wavering network has ten likely labels and some likely entities; an undecided one gives all
labels nearly one score; random logits have one spread for labels and tags.
"""

from time import thread_time

import numpy as np
from common import begin, parser_of, print_table, rounded

from saarthi_lib.tasks import Labels, decode_joint

WORDS, LABELS, KINDS, TEXTS = 12, 1000, 100, 300
TRANSITIONS = ("none", "rows", "random")
LOGITS = {"random, spread 1": 1.0, "random, spread 3": 3.0, "random, spread 10": 10.0}
NETWORKS = ("wavering", "undecided", *LOGITS)


def main() -> None:
    """Measure, and print one table."""
    texts = 3 if begin(parser_of(__doc__)).quick else TEXTS
    rows = []
    for transitions in TRANSITIONS:
        chance = np.random.default_rng(0)
        labels = make_labels(chance, transitions)
        decode_joint(*make_logits(chance, labels, "undecided"), labels)  # makes tables
        for network in NETWORKS:
            times = []
            for _ in range(texts):
                of_label, of_tags = make_logits(chance, labels, network)
                started = thread_time()
                decode_joint(of_label, of_tags, labels)
                times.append(1000 * (thread_time() - started))
            p50, p99 = np.percentile(times, [50, 99])
            rows.append([transitions, network, rounded(float(p50)), rounded(float(p99))])
    header = ["transitions", "network", "p50 ms", "p99 ms"]
    print_table(f"{WORDS} words, {LABELS} labels, {KINDS} kinds, {texts} texts", header, rows)


def make_labels(chance: np.random.Generator, transitions: str) -> Labels:
    """Make labels with random kinds of entities."""
    kinds = [f"k{number}" for number in range(KINDS)]
    tags = ("O", *(f"{half}-{kind}" for kind in kinds for half in "BI"))
    slots = tuple(
        tuple(map(str, chance.choice(kinds, chance.integers(0, 7), replace=False)))
        for _ in range(LABELS)
    )
    following: dict[str, dict[str, int]] = {}
    if transitions == "random":
        numbers = chance.integers(0, 30, (len(tags), len(tags))).tolist()
        counted = [dict(zip(tags, row, strict=True)) for row in numbers]
        following = dict(zip(tags, counted, strict=True))
    elif transitions == "rows":
        for own in slots * 6:
            row = ["O"]
            for kind in chance.permutation(own)[:3]:
                row += ["O"] * chance.integers(0, 4) + [f"B-{kind}"]
                row += [f"I-{kind}"] * chance.integers(0, 3)
            for tag, after in zip(row, [*row[1:], "O"], strict=True):
                counts = following.setdefault(tag, {})
                counts[after] = counts.get(after, 0) + 1
    rows = tuple(map(int, chance.integers(2, 200, LABELS)))
    return Labels(tuple(map(str, range(LABELS))), tags, slots, rows, following)


def make_logits(
    chance: np.random.Generator, labels: Labels, network: str
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the label and of the words' tags."""
    spread = LOGITS.get(network, 1.0)
    of_label = spread * chance.normal(size=LABELS)
    of_tags = spread * chance.normal(size=(WORDS, len(labels.token)))
    if network not in LOGITS:
        of_tags[:, 0] += 5
        for word in chance.choice(WORDS, 4, replace=False):
            of_tags[word, 2 * chance.integers(KINDS) + 1] += 9
        of_label *= 0.01 if network == "undecided" else 1.0
        of_label[chance.choice(LABELS, 10)] += 6 if network == "wavering" else 0
    return of_label.astype(np.float32), of_tags.astype(np.float32)


if __name__ == "__main__":
    main()
