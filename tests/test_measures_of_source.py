"""The source grows no larger parts, and what measures it is right."""

import ast

import pytest

import measures_of_source as shape

# What was reached; whoever reaches more writes it here. Goals: 26,000 lines, files of
# 400 at most, 25 methods and 15 attributes, 20 files, 4 names, no circle, 6 %.
MOST = {
    "lines": 36_000,
    "longest_file": 1_150,
    "long_files": 17,
    "most_methods": 79,
    "most_attributes": 54,
    "largest_folder": 39,
    "circles": 0,
    "class_names_twice": 23,
    "vague_docstrings": 0,
}
LEAST = {"comment_percent": 2.3}


@pytest.fixture(scope="module")
def measured():
    """Measure the source once."""
    return shape.measure()._asdict()


@pytest.mark.parametrize("name", MOST)
def test_source_grows_no_larger(measured, name):
    """What was small enough stays so."""
    assert measured[name] <= MOST[name]


@pytest.mark.parametrize("name", LEAST)
def test_source_says_no_less(measured, name):
    """What was said is not lost."""
    assert measured[name] >= LEAST[name]


def test_all_is_held():
    """Nothing is measured for nothing."""
    assert {*MOST, *LEAST} == {*shape.Shape._fields}


def test_circle_is_found_once_for_each_import_that_has_to_go():
    """Two modules that import each other, and three in a ring that shares one."""
    assert shape.circles({"a": {"b"}, "b": set()}) == 0
    assert shape.circles({"a": {"b"}, "b": {"a"}}) == 1
    two = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"b"}}
    assert shape.circles(two) == 2


def test_relative_imports_are_found(tmp_path):
    """Of a module, of a name in it, and of a package beside."""
    file = tmp_path / "two.py"
    file.write_text("from .one import x\nfrom ..other import y\nimport house.third\n")
    known = dict.fromkeys(("house.in.one", "house.other", "house.third", "house.x"))
    found = shape.imports("house.in.two", file, known)
    assert found == {"house.in.one", "house.other", "house.third"}


def test_only_lines_that_are_comments_are_counted():
    """Not what stands behind code, nor in a text."""
    text = 'a = 1  # no\n# yes\nb = """\n# no\n"""\n    # yes\n'
    assert shape.comment_lines(text) == 2


def test_attributes_are_those_of_the_object():
    """Assigned anywhere in its methods."""
    (node,) = ast.parse(
        "class A:\n def f(self):\n  self.a = self.b, c.d = 1, 2\n  self.e += 1\n"
    ).body
    assert shape.attributes(node) == {"a", "b", "e"}
