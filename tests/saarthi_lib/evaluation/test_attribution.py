"""Explanations: properties that hold for random networks of every kind."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModel, BertConfig

from saarthi_lib.evaluation.attribution import METHODS, Explainer, Reading, Target
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
    return Explainer(network, embeddings, SubwordTokenizer(tokenizer), labels, task, 26)


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


def questions(explainer: Explainer, texts: list[str]) -> list[tuple[Reading, Target]]:
    readings = [explainer.read(text) for text in texts]
    return [
        (reading, Target(answer.label, tuple(zip(reading.read, answer.tags, strict=False))[:2]))
        for reading, answer in zip(readings, explainer.answer(readings), strict=True)
    ]


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_integrated_gradients_add_up_to_the_difference(kind: str, task: str):
    explainer = explainer_of(kind, task)
    asked = questions(explainer, SENTENCES[::2])
    # Max pooling and ReLUs bend the path, so the sum needs many steps to converge.
    found = explainer.attribute(asked, "integrated_gradients", steps=200)
    totals = [each.total for each in found]
    largest = max(map(abs, totals))
    assert largest > 1e-3
    assert [each.words.sum() for each in found] == pytest.approx(totals, abs=0.02 * largest)
    for (reading, target), each in zip(asked, found, strict=True):
        whole, nothing = explainer.probabilities((reading, target), [(), reading.read])
        assert each.total == pytest.approx(np.log(whole / nothing), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6)
@given(texts=sentences, task=st.sampled_from(TASKS), method=st.sampled_from(METHODS))
def test_padding_and_batching_change_no_attribution(kind: str, texts: list[str], task: str, method):
    explainer = explainer_of(kind, task)
    asked = questions(explainer, texts)
    together = explainer.attribute(asked, method, steps=5)
    for question, each in zip(asked, together, strict=True):
        [alone] = explainer.attribute([question], method, steps=5)
        assert each.words == pytest.approx(alone.words, abs=1e-4)
        assert each.total == pytest.approx(alone.total, abs=1e-4)


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_leave_one_out_is_the_loss_without_each_word(kind: str, task: str):
    explainer = explainer_of(kind, task)
    asked = questions(explainer, SENTENCES[:5])
    for question, found in zip(asked, explainer.attribute(asked, "leave_one_out"), strict=True):
        words = question[0].read
        whole, *without = explainer.probabilities(question, [(), *((word,) for word in words)])
        expected = np.log(whole) - np.log(without)
        assert found.words[words] == pytest.approx(expected, abs=1e-4)


@given(text=st.sampled_from(SENTENCES), task=st.sampled_from(TASKS))
def test_every_token_belongs_to_one_word(text: str, task: str):
    """Attributions of words are sums over their tokens: none is lost or counted twice."""
    reading = explainer_of("lstm", task).read(text)
    assert len(reading.word_of) == len(reading.ids)
    assert reading.word_of == sorted(reading.word_of)
    assert reading.read == list(range(len(reading.words)))
    assert " ".join(reading.words).split() == " ".join(reading.words).split(" ")
    assert "".join(reading.words) == text.replace(" ", "")


def test_words_beyond_the_maximum_length_get_zero():
    explainer = explainer_of("lstm", "ner")
    reading = explainer.read(" ".join(SENTENCES[:4]))
    assert len(reading.ids) == 26 and len(reading.read) < len(reading.words)
    [answer] = explainer.answer([reading])
    assert len(answer.tags) == len(reading.read)
    target = Target(tags=((0, answer.tags[0]),))
    for method in METHODS:
        [found] = explainer.attribute([(reading, target)], method)
        assert len(found.words) == len(reading.words)
        assert not found.words[len(reading.read) :].any()


def test_a_word_that_decides_alone_gets_the_whole_score():
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
    [answer] = explainer.answer([reading])
    for method in METHODS:
        [found] = explainer.attribute([(reading, Target(tags=((3, answer.tags[3]),)))], method)
        others = np.delete(found.words, 3)
        assert abs(found.words[3]) > 1e-3 and np.abs(others).max() < 1e-6
    student.load_state_dict(before)
