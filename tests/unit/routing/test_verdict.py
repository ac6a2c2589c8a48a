"""The verdicts: values, told apart by their type."""

from maitred.routing import NEED_MORE, Match, NeedMore, NoMatch


def test_need_more_is_one_value():
    """There is nothing to say beyond needing more."""
    assert NeedMore() == NEED_MORE


def test_verdicts_of_the_same_content_are_equal():
    """Verdicts are compared by what they say."""
    assert Match(b"a=1") == Match(b"a=1", learned=False)
    assert Match(b"a=1") != Match(b"a=1", learned=True)
    assert NoMatch(400, "bad_host") != NoMatch(400, "bad_request")


def test_a_key_is_taken_for_made_by_the_client_unless_said():
    """Only affinities that learn mark their keys."""
    assert Match(None).learned is False
