"""The hand-off loses nothing and runs nothing twice, in every order of steps."""

from __future__ import annotations

import pytest

from model.cases import CASES
from model.handoff import RULES, Case, Handoff

NEEDS = {
    "keep a copy until TAKEN": (Case(kept=False), "that nobody had begun is lost"),
    "fence": (Case(), "two owners"),
    "hear the dead": (
        Case(parts=1, drains=1, kept=False),
        "that nobody had begun is lost",
    ),
    "look if untouched": (Case(parts=1, kept=False), "bytes of a request are missing"),
    "READING first": (Case(), "that nobody had begun is lost"),
    "journal": (Case(), "bytes of a request are missing"),
    "STARTED first": (Case(), "a request was started twice"),
    "count the answers": (Case(), "two answers in one"),
    "give back all": (Case(drains=1), "bytes of a request are missing"),
    "say CLOSED": (Case(leaves=True), "a descriptor is left"),
}
"For each rule: where it is missed, and what goes wrong there without it."


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_nothing_is_lost_and_nothing_runs_twice(case):
    """Every state has one owner at most; every fair run ends with all answered."""
    result = Handoff(case).explore()
    assert not result.wrong, str(result)
    assert result.at_rest > 1


def test_every_rule_has_a_case_that_needs_it():
    """No rule is in the model without a reason."""
    assert NEEDS.keys() == RULES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("rule", NEEDS)
def test_leaving_out_a_rule_is_noticed(rule):
    """The model fails where a rule of the hand-off is left out, and says how."""
    case, wrong = NEEDS[rule]
    result = Handoff(case._replace(omit=frozenset({rule}))).explore()
    assert wrong in result.wrong, str(result)
    assert result.trace


def test_a_taken_that_was_not_heard_is_noticed():
    """Without copies, who neither hears the dead nor looks runs half a request."""
    omit = frozenset({"hear the dead", "look if untouched"})
    case = Case(owners=(0, 0), kept=False, omit=omit)
    result = Handoff(case).explore()
    assert result.wrong == "bytes of a request are missing"


def test_marks_speak_for_a_dead_worker_who_is_not_heard():
    """With copies, what it had said is not needed: the marks say as much."""
    case = Case(parts=1, drains=1, owners=(0,), omit=frozenset({"hear the dead"}))
    result = Handoff(case).explore()
    assert not result.wrong, str(result)


@pytest.mark.parametrize("buffers", [True, False])
def test_the_mark_may_come_before_the_end_of_the_answer(buffers):
    """The kernel's count decides: so it does not matter which comes first."""
    case = Case(owners=(0, 0), parts=1, buffers=buffers)
    result = Handoff(case).explore()
    assert not result.wrong, str(result)
    assert Handoff(case._replace(omit=frozenset({"count the answers"}))).explore().wrong


@pytest.mark.parametrize(
    ("sudden", "buffers", "last"),
    [("start", True, "marks STARTED"), ("end", False, "writes the rest")],
)
def test_a_mark_is_not_as_quick_as_what_it_marks(sudden, buffers, last):
    """Beside the start of a request and its end is a moment in which a kill costs."""
    case = Case(owners=(0, 0), parts=1, buffers=buffers, sudden=sudden)
    result = Handoff(case).explore()
    assert "that nobody had begun is lost" in result.wrong
    assert f"worker 0 {last}" in result.trace[:-1]


def test_an_answer_that_is_out_costs_nothing_where_the_mark_came_first():
    """Where the end of an answer leaves after its mark, the second moment is none."""
    result = Handoff(Case(owners=(0, 0), parts=1, sudden="end")).explore()
    assert not result.wrong, str(result)
