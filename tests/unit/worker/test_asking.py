"""Asking the master about a key: every question has one answer."""

import pytest

from maitred.worker.asking import Questions


@pytest.fixture
def asked():
    """What went to the master."""
    return []


@pytest.fixture
def questions(asked):
    """Questions, noted, and heard by somebody."""
    return Questions(lambda key, learned: asked.append((key, learned)) is None)


def test_key_is_asked_for_once_and_all_are_answered(questions, asked):
    """Several who want to know the same put one question."""
    said = []
    for _ in range(3):
        questions.put(b"k", said.append, learned=True)
    questions.put(b"other", said.append, learned=False)
    assert asked == [(b"k", True), (b"other", False)]
    questions.answer(b"k", yes=True)
    assert said == [True] * 3
    questions.answer(b"k", yes=False)
    assert said == [True] * 3


def test_answer_may_lead_to_the_next_question(questions, asked):
    """Who is told may ask again at once."""
    said = []

    def again(yes):
        said.append(yes)
        if len(said) == 1:
            questions.put(b"k", again, learned=False)

    questions.put(b"k", again, learned=False)
    questions.answer(b"k", yes=True)
    assert said == [True]
    assert len(asked) == 2
    questions.answer(b"k", yes=False)
    assert said == [True, False]


def test_who_gives_up_says_no_to_all(questions):
    """A worker that leaves is answered no more."""
    said = []
    questions.put(b"a", said.append, learned=False)
    questions.put(b"b", said.append, learned=False)
    questions.give_up()
    assert said == [False, False]
    questions.give_up()
    assert len(said) == 2


def test_who_gives_up_some_waits_for_the_others(questions):
    """Of those who would have answered, one is gone."""
    said = []
    for key in (b"a1", b"a2", b"b1"):
        questions.put(key, lambda yes, key=key: said.append((key, yes)), learned=False)
    questions.give_up(lambda key: key.startswith(b"a"))
    assert said == [(b"a1", False), (b"a2", False)]
    questions.answer(b"b1", yes=True)
    assert said[2:] == [(b"b1", True)]


def test_question_that_nobody_hears_is_not_open():
    """Who asks is told at once, and nothing is answered later."""
    said = []
    questions = Questions(lambda _key, _learned: False)
    assert not questions.put(b"k", said.append, learned=False)
    questions.answer(b"k", yes=True)
    questions.give_up()
    assert said == []
