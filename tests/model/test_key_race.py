"""Two workers serve one key at once only while a REVOKE is on its way."""

from __future__ import annotations

import pytest

from model.key_race import RULES, Case, KeyRace

NEEDS = {
    "say REVOKE": (False, "nobody will tell it not to"),
    "take last": (False, "nobody will tell it not to"),
    "listen first": (True, "a key that the client may know is unknown"),
}
"For each rule: whether learned keys need it, and what goes wrong without it."


@pytest.mark.slow
@pytest.mark.parametrize(("learned", "events"), [(False, 3), (True, 6)])
def test_who_will_serve_a_key_is_who_the_table_names(learned, events):
    """With all heard that is on its way, no worker serves what is not its."""
    result = KeyRace(Case(learned, events)).explore()
    assert not result.wrong, str(result)
    assert result.at_rest > 1


def test_every_rule_has_a_case_that_needs_it():
    """No rule is in the model without a reason."""
    assert NEEDS.keys() == RULES.keys()


@pytest.mark.parametrize("rule", NEEDS)
def test_leaving_out_a_rule_is_noticed(rule):
    """The model fails where a rule is left out, and says how."""
    learned, wrong = NEEDS[rule]
    result = KeyRace(Case(learned, 3, frozenset({rule}))).explore()
    assert wrong in result.wrong, str(result)
