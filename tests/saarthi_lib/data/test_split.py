import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saarthi_lib.data.split import Share, cut, few_shot, trial_rows
from saarthi_lib.errors import DataError

groups = st.dictionaries(
    st.tuples(st.sampled_from(["en", "hi", "ta"]), st.sampled_from(["on", "off", "play"])),
    st.integers(1, 12),
    min_size=1,
)


def table_of(sizes: dict[tuple[str, str], int]) -> pd.DataFrame:
    keys = [key for key, size in sizes.items() for _ in range(size)]
    table = pd.DataFrame(
        {
            "text": [f"text {row}" for row in range(len(keys))],
            "lang": [lang for lang, _ in keys],
            "label": [label for _, label in keys],
        }
    )
    return table.sample(frac=1, random_state=0).reset_index(drop=True)


def cut_of(table: pd.DataFrame, fraction: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    task = "intent_classification" if "label" in table else "pos"
    if "label" not in table:
        table = table.assign(tags=pd.Series([["X"]] * len(table)))
    return cut(table, Share(fraction, is_limit=True), task, seed)


@given(groups, st.sampled_from([0.1, 0.25, 0.4]), st.integers(0, 3))
@settings(max_examples=60)
def test_cut_divides_the_rows_and_loses_no_label(
    sizes: dict[tuple[str, str], int], fraction: float, seed: int
) -> None:
    table = table_of(sizes)
    try:
        stay, out = cut_of(table, fraction, seed)
    except DataError:
        assert fraction * len(table) < 1 or max(sizes.values()) == 1
        return

    assert sorted([*stay["text"], *out["text"]]) == sorted(table["text"])
    assert set(zip(stay["lang"], stay["label"], strict=True)) == set(sizes)
    assert len(out) <= fraction * len(table) + 1e-9
    for part in (stay, out):  # in their old order
        assert list(part["text"]) == [text for text in table["text"] if text in set(part["text"])]


def test_cut_is_stratified_by_language_and_label() -> None:
    sizes = {("en", "on"): 100, ("en", "off"): 50, ("hi", "on"): 20, ("hi", "off"): 10}
    _, out = cut_of(table_of(sizes), 0.2, seed=0)

    assert {tuple(key): len(rows) for key, rows in out.groupby(["lang", "label"])} == {
        key: size // 5 for key, size in sizes.items()
    }


def test_small_strata_give_their_share_together() -> None:
    sizes = {("en", f"label {number}"): 4 for number in range(50)}
    _, out = cut_of(table_of(sizes), 0.1, seed=0)

    assert len(out) == 20


def test_the_same_seed_cuts_the_same_rows() -> None:
    table = table_of({("en", "on"): 30, ("hi", "off"): 30})

    first, second, other = (set(cut_of(table, 0.2, seed)[1]["text"]) for seed in (1, 1, 2))
    assert first == second != other


def test_tables_without_labels_are_cut() -> None:
    table = table_of({("en", "on"): 20, ("hi", "on"): 10}).drop(columns="label")

    assert cut_of(table, 0.1, seed=0)[1]["lang"].value_counts().to_dict() == {"en": 2, "hi": 1}


def test_cut_of_too_few_rows_names_the_remedy() -> None:
    with pytest.raises(DataError, match=r"3 training rows are too few .* file of its own"):
        cut_of(table_of({("en", "on"): 3}), 0.1, seed=0)


def test_rows_of_a_group_or_text_stay_together() -> None:
    table = table_of({("en", "on"): 40, ("hi", "on"): 40})
    table["group"] = [f"conversation {row // 4}" for row in range(80)]
    table.at[7, "text"] = str(table.at[70, "text"])  # one text binds two conversations
    stay, out = cut_of(table, 0.2, seed=3)

    assert len(out) > 8
    assert not set(stay["group"]) & set(out["group"])
    assert not set(stay["text"]) & set(out["text"])
    first, last = table.loc[7, "group"], table.loc[70, "group"]
    assert (first in set(out["group"])) == (last in set(out["group"]))


def test_rows_without_a_group_are_cut_singly() -> None:
    table = table_of({("en", "on"): 40})
    table["group"] = [None if row % 2 else "one" for row in range(40)]
    stay, out = cut_of(table, 0.25, seed=0)

    assert len({*stay["group"].dropna()} & {*out["group"].dropna()}) == 0
    assert len(out) >= 5


def test_few_shot_keeps_n_rows_per_label_and_language() -> None:
    sizes = {("en", "on"): 30, ("en", "off"): 4, ("hi", "on"): 12, ("hi", "off"): 10}
    table = table_of(sizes)
    kept = few_shot(table, 10, "intent_classification", seed=1)

    assert {tuple(key): len(rows) for key, rows in kept.groupby(["lang", "label"])} == {
        key: min(10, size) for key, size in sizes.items()
    }
    assert list(kept["text"]) == [text for text in table["text"] if text in set(kept["text"])]
    again = few_shot(table, 10, "intent_classification", seed=1)
    assert list(again["text"]) == list(kept["text"])
    assert list(few_shot(table, 10, "joint", seed=2)["text"]) != list(kept["text"])


def test_few_shot_of_tagged_text_covers_each_entity_type() -> None:
    tags = [["B-room", "O"]] * 30 + [["B-device", "I-device"]] * 20 + [["O", "O"]] * 20
    tags += [["B-room", "B-time"]] * 2
    table = pd.DataFrame(
        {"text": [f"text {row}" for row in range(len(tags))], "lang": "en", "tags": tags}
    )
    kept = few_shot(table, 5, "ner", seed=0)
    count = {
        kind: sum(f"B-{kind}" in row for row in kept["tags"]) for kind in ("room", "device", "time")
    }

    assert count == {"room": 5, "device": 5, "time": 2}
    # Sentences without an entity are a kind of their own.
    assert sum(set(row) == {"O"} for row in kept["tags"]) == 5


def tagged(tags: list[list[str]]) -> pd.DataFrame:
    return pd.DataFrame(
        {"text": [f"text {row}" for row in range(len(tags))], "lang": "en", "tags": tags}
    )


def test_trial_rows_of_a_sorted_file_have_every_label() -> None:
    table = table_of({("en", f"label {number}"): 100 for number in range(10)} | {("hi", "on"): 1})
    table = table.sort_values("label", ignore_index=True)
    chosen = trial_rows(table, "intent_classification", 64, seed=0)

    assert len(chosen) == 64
    assert set(chosen["label"]) == set(table["label"]) and set(chosen["lang"]) == {"en", "hi"}
    assert list(chosen["text"]) == [text for text in table["text"] if text in set(chosen["text"])]
    again = trial_rows(table, "intent_classification", 64, seed=0)
    assert list(again["text"]) == list(chosen["text"])
    assert list(trial_rows(table, "intent_classification", 64, seed=1)["text"]) != list(
        chosen["text"]
    )


def test_trial_rows_have_one_row_per_label() -> None:
    table = table_of({("en", f"label {number}"): 3 for number in range(150)})
    chosen = trial_rows(table, "intent_classification", 64, seed=0)

    assert sorted(chosen["label"]) == sorted(set(table["label"]))


def test_trial_takes_all_rows_of_a_small_split() -> None:
    table = table_of({("en", "on"): 30, ("en", "off"): 34})

    assert list(trial_rows(table, "intent_classification", 64, seed=0)["text"]) == list(
        table["text"]
    )


@pytest.mark.parametrize("task", ["ner", "pos"])
def test_trial_rows_have_every_tag(task: str) -> None:
    last = [["B-room", "O"], ["B-device", "I-device"], ["B-time", "O"]]
    chosen = trial_rows(tagged([["O", "O"]] * 5_000 + last), task, 64, seed=0)

    assert len(chosen) == 64
    assert {tag for tags in chosen["tags"] for tag in tags} == {tag for row in last for tag in row}


def test_trial_rows_of_joint_have_all_labels_and_entities() -> None:
    table = tagged([["O", "O"]] * 200 + [["B-room", "O"], ["B-time", "O"]])
    table["label"] = ["on"] * 100 + ["off"] * 102
    chosen = trial_rows(table, "joint", 64, seed=0)

    assert len(chosen) == 64 and set(chosen["label"]) == {"on", "off"}
    assert {tag for tags in chosen["tags"] for tag in tags} == {"O", "B-room", "B-time"}
