"""Predictor with tiny bundles of every task on both runtimes."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saarthi_lib import Predictor, init, run
from saarthi_lib.bundle import Calibration
from saarthi_lib.errors import BundleError, InputError
from saarthi_lib.inference import predictor as predictor_module
from saarthi_lib.inference.familiarity import Familiarity
from saarthi_lib.inference.predictor import Entity, Prediction, Token
from saarthi_lib.tasks import HEADS, OUT_OF_SCOPE
from saarthi_lib.text.tokenizer import SubwordTokenizer
from tests.tiny_bundle import (
    BIO_LABELS,
    POS_LABELS,
    SENTENCES,
    SEQUENCE_LABELS,
    make_tokenizer,
    write_tiny_bundle,
)

ALWAYS = ("confidence", "threshold", "abstained", "reason", "lang")  # fields of every answer
RUNTIMES = ("onnxruntime", "torchscript")
# More than one batch of different lengths, so that rows are sorted and padded.
WORDS = " ".join(SENTENCES).split()
MANY = [" ".join(WORDS[i % 40 : i % 40 + 1 + i % 7]) for i in range(75)]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle for each task, with a model for both runtimes."""
    root = tmp_path_factory.mktemp("bundles")
    return {task: write_tiny_bundle(root / task, task, runtime="onnxruntime") for task in HEADS}


@pytest.fixture(scope="module")
def load(bundles: dict[str, Path]) -> Callable[[str, str], Predictor]:
    loaded: dict[tuple[str, str], Predictor] = {}

    def get(task: str, runtime: str = "onnxruntime") -> Predictor:
        if (task, runtime) not in loaded:
            loaded[task, runtime] = Predictor.load(bundles[task], runtime=runtime)
        return loaded[task, runtime]

    return get


@pytest.fixture(scope="module")
def normalizing(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Predictor]:
    """Predictors of bundles with `normalization: standard`."""
    root = tmp_path_factory.mktemp("normalizing")

    @cache
    def get(task: str) -> Predictor:
        bundle = write_tiny_bundle(
            root / task, task, runtime="onnxruntime", normalization="standard"
        )
        return Predictor.load(bundle)

    return get


def spans_of(prediction: Prediction) -> list[Entity | Token]:
    return [*prediction.entities, *prediction.tokens]


def same_labels(first: Prediction, second: Prediction) -> bool:
    def labels(prediction: Prediction) -> list[str]:
        return [span.label for span in spans_of(prediction)]

    return first.label == second.label and labels(first) == labels(second)


def same(first: Prediction, second: Prediction) -> bool:
    """Compare answers with a tolerance for probabilities."""

    def spans(prediction: Prediction) -> list[tuple[str, int, int]]:
        return [(s.label, s.start, s.end) for s in spans_of(prediction)]

    return (
        first.label == second.label
        and spans(first) == spans(second)
        and first.probability == pytest.approx(second.probability, abs=1e-5)
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("task", HEADS)
def test_batching_and_padding_change_nothing(load: Callable, task: str, runtime: str) -> None:
    predictor = load(task, runtime)

    together = predictor.predict(MANY)

    assert [prediction.text for prediction in together] == MANY
    alone = [predictor.predict([text])[0] for text in MANY]
    assert all(map(same, together, alone))
    assert len({prediction.probability for prediction in together}) > len(MANY) / 2


@pytest.mark.parametrize("task", HEADS)
def test_both_runtimes_agree(load: Callable, task: str) -> None:
    answers = [load(task, runtime).predict(SENTENCES) for runtime in RUNTIMES]

    assert all(map(same, *answers))


def test_classification_gives_the_best_labels(load: Callable) -> None:
    [prediction] = load("intent_classification").predict([SENTENCES[0]], top_k=3)

    probabilities = [probability for _, probability in prediction.top_k]
    assert prediction.top_k[0] == (prediction.label, prediction.probability)
    assert len({label for label, _ in prediction.top_k} & set(SEQUENCE_LABELS)) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    assert prediction.to_dict() == {
        "label": prediction.label,
        "probability": prediction.probability,
        "top_k": [{"label": name, "probability": value} for name, value in prediction.top_k],
        "confidence": prediction.probability,
        "threshold": None,
        "abstained": False,
        "reason": None,
        "lang": None,
    }


def test_all_labels_add_up_to_one(load: Callable) -> None:
    [prediction] = load("text_classification").predict([SENTENCES[0]], top_k=100)

    assert len(prediction.top_k) == len(SEQUENCE_LABELS)
    assert sum(probability for _, probability in prediction.top_k) == pytest.approx(1, abs=1e-5)


def test_labels_differ_between_texts(load: Callable) -> None:
    assert len({p.label for p in load("intent_classification").predict(SENTENCES)}) > 1


@pytest.mark.parametrize("task", ["ner", "joint"])
def test_entities_are_spans_of_the_text(load: Callable, task: str) -> None:
    predictions = load(task).predict(SENTENCES)

    assert sum(len(prediction.entities) for prediction in predictions) > 3
    types = {label[2:] for label in BIO_LABELS if label != "O"}
    for prediction in predictions:
        assert prediction.tokens == []
        for entity in prediction.entities:
            assert entity.text == prediction.text[entity.start : entity.end] == entity.text.strip()
            assert entity.label in types
            assert 0 < entity.probability <= 1


def test_ner_answers_with_entities_only(load: Callable) -> None:
    [prediction] = load("ner").predict([SENTENCES[5]], ["hindi"])

    assert prediction.label is None
    assert prediction.to_dict().keys() == {"entities", *ALWAYS}
    assert prediction.to_dict()["lang"] == "hindi"


def test_joint_answers_with_label_and_entities(load: Callable) -> None:
    [prediction] = load("joint").predict([SENTENCES[5]])

    assert prediction.to_dict().keys() == {"label", "probability", "entities", *ALWAYS}
    assert prediction.label in SEQUENCE_LABELS


def test_pos_tags_every_word(load: Callable) -> None:
    [prediction] = load("pos").predict(["कल मौसम कैसा रहेगा?"])

    assert [token.text for token in prediction.tokens] == ["कल", "मौसम", "कैसा", "रहेगा", "?"]
    assert {token.label for token in prediction.tokens} <= set(POS_LABELS)
    assert prediction.probability == min(token.probability for token in prediction.tokens)
    assert prediction.to_dict().keys() == {"tokens", *ALWAYS}


def test_languages_are_copied_to_answers(load: Callable) -> None:
    langs = ["english", None, "hindi"]

    predictions = load("intent_classification").predict(SENTENCES[:3], langs)

    assert [prediction.lang for prediction in predictions] == langs


def test_long_text_is_truncated_and_marked(load: Callable) -> None:
    short, long = load("pos").predict(["turn on", "lights " * 50])

    assert not short.truncated and "truncated" not in short.to_dict()
    assert long.truncated and long.to_dict()["truncated"] is True
    assert 0 < len(long.tokens) < 50


def test_below_the_threshold_the_model_abstains(tmp_path: Path, load: Callable) -> None:
    probabilities = [p.probability for p in load("intent_classification").predict(SENTENCES)]
    threshold = sorted(probabilities)[5]  # equal to the threshold, so answered
    bundle = write_tiny_bundle(tmp_path / "bundle", runtime="onnxruntime", threshold=threshold)

    predictions = Predictor.load(bundle).predict(SENTENCES)

    assert sum(prediction.abstained for prediction in predictions) == 5
    for prediction in predictions:
        assert prediction.abstained == (prediction.probability < threshold)
        assert prediction.label in SEQUENCE_LABELS


LIMITS = st.floats(0, 1)


@pytest.mark.parametrize("task", HEADS)
@settings(max_examples=25)
@given(limits=st.lists(LIMITS | st.none(), min_size=len(SENTENCES), max_size=len(SENTENCES)))
def test_a_threshold_changes_only_abstention(
    load: Callable, task: str, limits: list[float | None]
) -> None:
    predictor = load(task)
    before = predictor.predict(SENTENCES, top_k=3)
    after = predictor.predict(SENTENCES, top_k=3, threshold=limits)
    for old, new, limit in zip(before, after, limits, strict=True):
        assert new.threshold == limit
        assert new.abstained == (limit is not None and new.confidence < limit)
        assert new.reason == ("low_probability" if new.abstained else None)
        same = {"threshold": None, "abstained": False, "reason": None}
        assert replace(new, **same) == old


def test_one_threshold_holds_for_all_texts(tmp_path: Path) -> None:
    predictor = Predictor.load(write_tiny_bundle(tmp_path / "bundle", threshold=0.9))
    answers = predictor.predict(SENTENCES, threshold=0.25)
    assert [answer.threshold for answer in answers] == [0.25] * len(SENTENCES)
    assert not any(answer.abstained for answer in predictor.predict(SENTENCES, threshold=0))
    own = predictor.predict(SENTENCES, threshold=[None] * len(SENTENCES))
    assert own == predictor.predict(SENTENCES) and own[0].threshold == 0.9


def test_languages_have_their_own_thresholds(tmp_path: Path) -> None:
    limits = {"hindi": 0.0, "tamil": 1.0}
    bundle = write_tiny_bundle(tmp_path / "bundle", threshold=0.5, language_thresholds=limits)
    predictor = Predictor.load(bundle)
    langs = ["hindi", "hi", "hi-IN", " Hindi ", "ta", "tamil", None, "english"]
    answers = predictor.predict([SENTENCES[0]] * len(langs), langs)
    assert [answer.threshold for answer in answers] == [0.0] * 4 + [1.0] * 2 + [0.5] * 2
    assert [answer.abstained for answer in answers[:6]] == [False] * 4 + [True] * 2
    # A threshold of the request replaces those of languages too.
    [asked] = predictor.predict([SENTENCES[0]], ["ta"], threshold=0.0)
    assert not asked.abstained and asked.threshold == 0.0


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (1.5, "threshold must be a number from 0 to 1, not '1.5'"),
        (float("nan"), "threshold must be a number from 0 to 1, not 'nan'"),
        (True, "threshold must be a number from 0 to 1"),
        ("0.5", "threshold must be a number from 0 to 1"),
        ([0.5, -0.1], r"threshold\[1\] must be a number from 0 to 1, not '-0.1'"),
        ([0.5], "there are 1 thresholds for 2 texts: give one for each"),
    ],
)
def test_a_wrong_threshold_is_refused(load: Callable, threshold: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load("intent_classification").predict(SENTENCES[:2], threshold=threshold)


def test_temperature_changes_probability_but_not_answer(tmp_path: Path, load: Callable) -> None:
    calibration = {**asdict(Calibration()), "temperature": 4.0, "token_temperature": 4.0}
    bundle = write_tiny_bundle(
        tmp_path / "bundle", "joint", runtime="onnxruntime", calibration=calibration
    )

    for plain, tempered in zip(
        load("joint").predict(SENTENCES, top_k=4),
        Predictor.load(bundle).predict(SENTENCES, top_k=4),
        strict=True,
    ):
        assert [label for label, _ in plain.top_k] == [label for label, _ in tempered.top_k]
        scaled = np.array([p for _, p in plain.top_k]) ** 0.25
        expected = scaled / scaled.sum()
        assert [p for _, p in tempered.top_k] == pytest.approx(expected.tolist(), abs=1e-5)
        assert [e.label for e in plain.entities] == [e.label for e in tempered.entities]
        assert all(
            cold.probability != warm.probability
            for warm, cold in zip(plain.entities, tempered.entities, strict=True)
        )


def test_invalid_tag_with_high_logit_is_overruled(
    load: Callable,
) -> None:
    plain = load("ner")

    class Engine:
        """High logits for I-area without B-area."""

        def run(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[None, np.ndarray]:
            logits = np.zeros((*ids.shape, len(BIO_LABELS)), np.float32)
            logits[..., BIO_LABELS.index("I-area")] = 1000.0
            return None, logits

    predictor = Predictor(
        plain.manifest, plain.labels, SubwordTokenizer(make_tokenizer()), Engine()
    )
    with np.errstate(over="raise", invalid="raise"):
        [answer] = predictor.predict([" ".join(WORDS[:2])])

    [area] = answer.entities
    assert (area.label, area.text) == ("area", answer.text)
    assert area.probability == pytest.approx(0.0, abs=1e-30)


def test_unfamiliar_text_abstains_and_familiar_one_does_not(load: Callable) -> None:
    plain = load("intent_classification")
    encode = make_tokenizer().encode
    known = Familiarity.of([np.array(encode(text).ids) for text in SENTENCES])
    calibration = Calibration(familiarity_weight=5.0, familiarity_mean=-1.3)
    unsilenced = plain.calibrated(calibration, None, known).predict(SENTENCES)
    threshold = min(answer.confidence for answer in unsilenced)
    predictor = plain.calibrated(calibration, threshold, known)

    familiar, strange = predictor.predict([SENTENCES[0], "zzz qqq zzz qqq jjj vvv"])

    assert not familiar.abstained and familiar.reason is None
    assert familiar.to_dict()["reason"] is None
    assert strange.confidence < threshold
    assert strange.abstained
    # Its probability alone is above the threshold.
    assert strange.probability >= threshold
    assert strange.to_dict()["reason"] == "unfamiliar_text"
    before = [answer.probability for answer in plain.predict(SENTENCES)]
    assert [answer.probability for answer in unsilenced] == before


def test_out_of_scope_class_abstains_and_is_never_answered(load: Callable) -> None:
    plain = load("intent_classification")
    labels = replace(plain.labels, sequence=(*SEQUENCE_LABELS[:-1], OUT_OF_SCOPE))
    predictor = Predictor(plain.manifest, labels, SubwordTokenizer(make_tokenizer()), plain.engine)

    before = plain.predict(SENTENCES + MANY, top_k=4)
    after = predictor.predict(SENTENCES + MANY, top_k=4)

    assert any(answer.abstained for answer in after)
    for old, new in zip(before, after, strict=True):
        assert OUT_OF_SCOPE not in [label for label, _ in new.top_k]
        left = dict(pair for pair in old.top_k if pair[0] != SEQUENCE_LABELS[-1])
        assert list(left) == [label for label, _ in new.top_k]
        assert left == pytest.approx(dict(new.top_k), abs=1e-6)
        assert new.abstained == (old.label == SEQUENCE_LABELS[-1])
        assert new.reason == ("out_of_scope" if new.abstained else None)


@pytest.mark.parametrize(
    ("texts", "langs", "message"),
    [
        (["fine", ""], None, r"texts\[1\] is empty"),
        (["fine", " \n\u3000"], None, r"texts\[1\] is empty"),
        (["fine", 3], None, r"texts\[1\] must be a string, not int"),
        (["fine", None], None, r"texts\[1\] must be a string"),
        (["fine", "\ud83d"], None, r"texts\[1\] is not valid Unicode"),
        (["fine"], [3], r"langs\[0\] must be a string"),
        (["fine"], [], "0 langs for 1 texts"),
        ("fine", None, "wrap it in a list"),
    ],
)
def test_unusable_input_is_named(load: Callable, texts: list, langs: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load("intent_classification").predict(texts, langs)


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "2", True])
def test_unusable_top_k_is_refused(load: Callable, top_k: object) -> None:
    with pytest.raises(InputError, match="top_k"):
        load("intent_classification").predict(["fine"], top_k=top_k)


@pytest.mark.parametrize("text", ["?", "\u200d", "\u200b", "🙂", "\x00", "xyzzy", "क" * 500])
@pytest.mark.parametrize("task", ["intent_classification", "joint"])
def test_odd_texts_are_answered(load: Callable, task: str, text: str) -> None:
    [prediction] = load(task).predict([text])

    assert prediction.label in SEQUENCE_LABELS


@pytest.mark.parametrize("task", HEADS)
def test_texts_that_normalize_alike_get_equal_answers(normalizing: Callable, task: str) -> None:
    clean = "पढ\u093cाई के लिए रसोई की बत्ती 7 बजे जलाओ? turn on the lights now!"
    typed = (
        "  \ufeffप\u095dाई के  लिए\tरसोई की ब\u200bत्ती ७ बजे जलाओ???\u3000turn on the lights now!!"
    )

    expected, given = normalizing(task).predict([clean, typed])

    assert same_labels(expected, given) and given.text == typed
    assert expected.probability == pytest.approx(given.probability, abs=1e-5)


@pytest.mark.parametrize("task", ["pos", "ner", "joint"])
def test_offsets_refer_to_the_given_text(normalizing: Callable, task: str) -> None:
    texts = [f"\u200b {text.replace(' ', '  ')}\u00ad!!! " for text in SENTENCES]

    for text, prediction in zip(texts, normalizing(task).predict(texts), strict=True):
        found = [*prediction.tokens, *prediction.entities]
        assert prediction.text == text
        for span in found:
            assert span.text == text[span.start : span.end] == span.text.strip()
        if task == "pos":
            visible = str.maketrans("", "", " \u200b\u00ad")
            shown = "".join(token.text for token in found)
            assert text.translate(visible).startswith(shown.translate(visible))
            assert prediction.truncated or text[found[-1].end :].strip() == ""


def test_given_words_are_normalized_one_by_one(normalizing: Callable) -> None:
    text = "\u0958लम\u200b \u200b\u200b ५ !!!"
    spans = [(0, 4), (5, 7), (8, 9), (10, 13)]
    clean = "क\u093cलम \u200b\u200b 5 !"

    [(_, found)] = normalizing("pos").logits([text], spans=[spans])
    [(_, expected)] = normalizing("pos").logits([clean], spans=[[(0, 4), (5, 7), (8, 9), (10, 11)]])

    assert found == pytest.approx(expected, abs=1e-5)


def test_bundle_word_splitting_decides_the_words(tmp_path: Path) -> None:
    text = "pay 20.04.2019 now!"
    words = {}
    for rule in ("punctuation", "whitespace"):
        bundle = write_tiny_bundle(tmp_path / rule, "pos", word_splitting=rule)
        [answer] = Predictor.load(bundle).predict([text])
        words[rule] = [token.text for token in answer.tokens]
    assert words["whitespace"] == ["pay", "20.04.2019", "now!"]
    assert words["punctuation"] == ["pay", "20", ".", "04", ".", "2019", "now", "!"]


@pytest.mark.parametrize("task", ["intent_classification", "ner"])
def test_text_of_invisible_characters_is_named(normalizing: Callable, task: str) -> None:
    with pytest.raises(InputError, match=r"texts\[1\] is empty: .*invisible"):
        normalizing(task).predict(["fine", "\u200b\u200d \x00"])


def test_empty_list_gives_no_answers(load: Callable) -> None:
    assert load("joint").predict([]) == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_concurrent_calls_equal_sequential_calls(load: Callable, runtime: str) -> None:
    predictor = load("joint", runtime)
    expected = [predictor.predict([text])[0] for text in MANY]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: predictor.predict([text])[0], MANY * 4))

    assert answers == expected * 4


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_warming_up_changes_no_answer(bundles: dict[str, Path], runtime: str) -> None:
    predictor = Predictor.load(bundles["joint"], runtime=runtime)
    before = predictor.predict(SENTENCES)

    predictor.warm_up()

    assert all(map(same, predictor.predict(SENTENCES), before))


def test_changed_bundle_is_not_loaded(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    (bundle / "labels.json").write_text('{"sequence": ["a", "b", "c", "d"], "token": []}')

    with pytest.raises(BundleError, match=r"labels\.json"):
        Predictor.load(bundle)


def test_missing_runtime_of_the_bundle_is_named(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", runtime="torchscript")

    with pytest.raises(BundleError, match=r"no model\.onnx"):
        Predictor.load(bundle, runtime="onnxruntime")
    with pytest.raises(BundleError, match="'tensorrt' is unknown"):
        Predictor.load(bundle, runtime="tensorrt")


@pytest.mark.parametrize(
    ("runtime", "other", "extra"),
    [("onnxruntime", "torch", "saarthi[onnx]"), ("torchscript", "onnxruntime", "saarthi[torch]")],
)
def test_one_runtime_is_enough_and_missing_one_is_named(
    bundles: dict[str, Path], runtime: str, other: str, extra: str
) -> None:
    package = {"onnxruntime": "onnxruntime", "torchscript": "torch"}[runtime]
    program = f"""
import sys
sys.modules[{other!r}] = None  # as if it were not installed
from saarthi_lib import Predictor
from saarthi_lib.errors import BundleError
bundle = {str(bundles["joint"])!r}
assert Predictor.load(bundle, runtime={runtime!r}).predict(["turn on the lights"])
heavy = {{"pandas", "lightning", "transformers", "kfp", "kserve"}} & set(sys.modules)
assert not heavy, heavy
sys.modules[{package!r}] = None
try:
    Predictor.load(bundle, runtime={runtime!r})
except BundleError as error:
    assert {extra!r} in str(error), error
else:
    raise AssertionError("loaded without its runtime")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_init_and_run_answer_like_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_module, "_current", None)
    with pytest.raises(InputError, match="call init"):
        run("turn on the lights")
    with pytest.raises(BundleError, match="bundle-int8"):
        init(tmp_path, "student")
    with pytest.raises(InputError, match="model_type"):
        init(tmp_path, "parent")

    full = write_tiny_bundle(tmp_path / "bundle")
    init(full, "student")
    assert run("turn on the lights").label in SEQUENCE_LABELS
    init(tmp_path, "student")
    assert run("turn on the lights").label in SEQUENCE_LABELS
    write_tiny_bundle(tmp_path / "bundle-int8", "ner")
    init(tmp_path, "student")
    assert run("जलाओ", lang="hindi").to_dict()["lang"] == "hindi"
    assert run("जलाओ").label is None

    with pytest.raises(BundleError, match="teacher-bundle"):
        init(tmp_path, "teacher")
    write_tiny_bundle(tmp_path / "teacher-bundle", "pos")
    init(tmp_path, "teacher")
    assert len(run("turn on").tokens) == 2
