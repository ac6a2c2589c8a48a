"""Asking the master about a key: every question has one answer."""

import pytest

from maitred.worker.asking import Questions


@pytest.fixture
def asked():
    """What went to the master."""
    return []


@pytest.fixture
def questions(asked):
    """Questions, noted."""
    return Questions(lambda key, learned: asked.append((key, learned)))


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
