"""Explanations: properties for random networks of every kind."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModel, BertConfig

from saarthi_lib.bundle import BundleManifest, Calibration
from saarthi_lib.evaluation.evaluate import NetworkEngine
from saarthi_lib.evaluation.explanation.attribution import METHODS, Explainer, Question
from saarthi_lib.evaluation.explanation.rows import Row, explain_rows
from saarthi_lib.inference.occlusion import Target, explain
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.models.encoders import FAMILIES
from saarthi_lib.models.student import ServedStudent, Student, StudentShape
from saarthi_lib.models.teacher import ServedTeacher, Teacher, TeacherEnsemble
from saarthi_lib.tasks import Labels, has_sequence_head, has_token_head
from saarthi_lib.text.tokenizer import SubwordTokenizer
from tests.tiny_bundle import BIO_LABELS, SENTENCES, SEQUENCE_LABELS, make_tokenizer

TASKS = ("intent_classification", "ner", "joint")
KINDS = (*FAMILIES, "teacher", "ensemble")
# Heads are explained alike in all networks, so two of them show the tasks with one head.
CASES = [(kind, "joint") for kind in KINDS] + [
    (kind, task) for kind in ("lstm", "teacher") for task in TASKS if task != "joint"
]
sentences = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=4)


@cache
def explainer_of(kind: str, task: str) -> Explainer:
    torch.manual_seed(0)
    labels = Labels(
        SEQUENCE_LABELS if has_sequence_head(task) else (),
        BIO_LABELS if has_token_head(task) else (),
    )
    tokenizer = make_tokenizer()
    sizes = (len(labels.sequence), len(labels.token))
    network: nn.Module
    if kind in FAMILIES:
        pieces = tokenizer.get_vocab_size()
        student = Student(StudentShape(pieces, 10, 8, 1, 12, *sizes, family=kind))
        network, embeddings = ServedStudent(student), [student.embedding]
    else:
        members = [teacher(tokenizer.get_vocab_size(), *sizes) for _ in range(2)]
        whole = TeacherEnsemble(members) if kind == "ensemble" else members[0]
        network = ServedTeacher(whole)
        embeddings = [each.encoder.get_input_embeddings() for each in members]
        embeddings = embeddings if kind == "ensemble" else embeddings[:1]
    for parameter in network.parameters():  # wide enough for answers to differ
        parameter.data.normal_(std=0.5)
    subwords = SubwordTokenizer(tokenizer)
    predictor = Predictor(manifest_of(task), labels, subwords, NetworkEngine(network))
    return Explainer(predictor, network, embeddings, subwords)


def manifest_of(task: str) -> BundleManifest:
    return BundleManifest(
        format=1,
        files={},
        name="network",
        version="",
        runtime="",
        precision="float32",
        task=task,
        languages=(),
        created="",
        max_seq_len=26,
        threshold=None,
        metrics={},
        made_by={},
        normalization="none",
        word_splitting="punctuation",
    )


def teacher(pieces: int, sequence_labels: int, token_labels: int) -> Teacher:
    config = BertConfig(
        vocab_size=pieces + 3,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    )
    special = {"begin": pieces, "end": pieces + 1, "pad": pieces + 2}
    encoder = AutoModel.from_config(config, add_pooling_layer=False)
    return Teacher(encoder, special, sequence_labels, token_labels)


def questions(explainer: Explainer, texts: list[str]) -> list[Question]:
    """A question about each text: its label, or the tags of its first two words."""
    if explainer.predictor.task == "ner":
        tags = {0: "B-area", 1: "I-area"}
        return [Question(explainer.read(text), tags=tags) for text in texts]
    answers = explainer.predictor.predict(texts)
    pairs = zip(texts, answers, strict=True)
    return [Question(explainer.read(text), label=answer.label) for text, answer in pairs]


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_integrated_gradients_add_up_to_total(kind: str, task: str):
    explainer = explainer_of(kind, task)
    asked = questions(explainer, SENTENCES[::2])
    # Max pooling and ReLUs bend the path, so the sum needs many steps to converge.
    found = explainer.attribute(asked, "integrated_gradients", steps=200)
    pairs = [explainer.log_probabilities(each, [(), each.reading.read]) for each in asked]
    totals = [whole - nothing for whole, nothing in pairs]
    largest = max(map(abs, totals))
    assert largest > 1e-3
    assert [scores.sum() for scores in found] == pytest.approx(totals, abs=0.02 * largest)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6)
@given(texts=sentences, task=st.sampled_from(TASKS), method=st.sampled_from(METHODS))
def test_batching_changes_no_attribution(kind: str, texts: list[str], task: str, method):
    explainer = explainer_of(kind, task)
    asked = questions(explainer, texts)
    together = explainer.attribute(asked, method, steps=5)
    for question, scores in zip(asked, together, strict=True):
        [alone] = explainer.attribute([question], method, steps=5)
        assert scores == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_leave_one_out_equals_playground_evidence(kind: str, task: str):
    explainer = explainer_of(kind, task)
    asked = questions(explainer, SENTENCES[:5])
    for question, scores in zip(asked, explainer.attribute(asked, "leave_one_out"), strict=True):
        spans, text = question.reading.spans, question.reading.text
        target = Target(spans[0][0], spans[1][1], "area") if question.tags else question.label
        expected = explain(explainer.predictor, text, target)
        assert scores.tolist() == [part.evidence for part in expected.parts]
        assert np.abs(scores).max() > 0


@given(text=st.sampled_from(SENTENCES), task=st.sampled_from(TASKS))
def test_every_token_belongs_to_one_word(text: str, task: str):
    """Scores of words are sums over their tokens, each counted once."""
    reading = explainer_of("lstm", task).read(text)
    assert len(reading.word_of) == len(reading.ids)
    assert reading.word_of == sorted(reading.word_of)
    assert reading.read == list(range(len(reading.words)))
    assert "".join(reading.words) == text.replace(" ", "")


def test_words_beyond_the_maximum_length_get_zero():
    explainer = explainer_of("lstm", "ner")
    reading = explainer.read(" ".join(SENTENCES[:4]))
    assert len(reading.ids) == 26 and len(reading.read) < len(reading.words)
    question = Question(reading, tags={0: "B-area"})
    for method in METHODS:
        [scores] = explainer.attribute([question], method)
        assert len(scores) == len(reading.words)
        assert not scores[len(reading.read) :].any()


def test_only_word_that_matters_gets_whole_score():
    """A student that reads the embedding of one token gives its word the whole score."""
    explainer = explainer_of("lstm", "ner")
    reading = explainer.read("turn on the kitchen lights")
    assert isinstance(explainer.network, ServedStudent)
    student = explainer.network.student
    before = {name: value.clone() for name, value in student.state_dict().items()}
    lstm = student.encoder.network
    with torch.no_grad():  # no state passes between words
        for direction in ("", "_reverse"):
            getattr(lstm, f"weight_hh_l0{direction}").zero_()
            getattr(lstm, f"bias_ih_l0{direction}")[8:16] = -1e4  # the forget gates
    for method in METHODS:
        [scores] = explainer.attribute([Question(reading, tags={4: "B-area"})], method)
        assert abs(scores[4]) > 1e-3 and np.abs(np.delete(scores, 4)).max() < 1e-6
    student.load_state_dict(before)


@pytest.mark.parametrize("task", TASKS)
def test_explained_and_predicted_probability_are_equal(task: str):
    plain = explainer_of("lstm", task)
    assert isinstance(plain.network, ServedStudent)
    calibration = Calibration(temperature=3.0, token_temperature=2.0)
    predictor = plain.predictor.calibrated(calibration, None, None)
    embeddings, tokenizer = [plain.network.student.embedding], SubwordTokenizer(make_tokenizer())
    explainer = Explainer(predictor, plain.network, embeddings, tokenizer)
    answers = predictor.predict(SENTENCES)
    found = explain_rows({"student": explainer}, [Row(text) for text in SENTENCES], METHODS[1:])
    expected = [
        [*([each.probability] if each.label else []), *(part.probability for part in each.entities)]
        for each in answers
    ]
    shown = [[answer["probability"] for answer in row["models"]["student"]] for row in found]
    assert shown == expected and any(shown)
    if task == "intent_classification":  # the network alone gives the same
        question = Question(explainer.read(SENTENCES[0]), label=answers[0].label)
        [alone] = np.exp(explainer.log_probabilities(question))
        assert alone == pytest.approx(answers[0].probability, abs=1e-5)
        assert alone != pytest.approx(np.exp(plain.log_probabilities(question))[0], abs=1e-3)


def test_wrong_entities_are_explained_first():
    explainer = explainer_of("lstm", "joint")
    text = next(each for each in SENTENCES if explainer.predictor.predict([each])[0].entities)
    [answer] = explainer.predictor.predict([text])
    words = explainer.read(text).words
    gold = ["O"] * (len(words) - 1) + ["B-person"]
    [row] = explain_rows({"student": explainer}, [Row(text, label=answer.label, tags=gold)])
    label, *entities = row["models"]["student"]
    assert (label["about"], label["answer"]) == (None, answer.label)
    assert 1 <= len(entities) <= 2
    for entity in entities:
        assert entity["about"] is not None
        assert [gold[word] for word in entity["about"]] != entity["answer"].split()
        assert set(entity["deletion"] or {}) == {*METHODS, "random"}
