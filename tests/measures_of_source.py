"""
Measure the shape of the source: how long, how large, how much is said why.

``script/shape`` prints it, and ``test_measures_of_source.py`` holds what was reached.
All is read from the files, with ``ast`` and ``tokenize``: nothing is imported.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1] / "src"
LONG: Final = 400
"Lines that a file may have."
VAGUE: Final = ("Give", "Say", "Own", "Have", "Know")
"Verbs that do not say what a function does."


class Shape(NamedTuple):
    """What was measured."""

    lines: int
    longest_file: int
    long_files: int
    most_methods: int
    most_attributes: int
    largest_folder: int
    circles: int
    class_names_twice: int
    vague_docstrings: int
    comment_percent: float


def modules() -> dict[str, Path]:
    """Return the file of each module of the package, by the module's name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of ours that module *name* imports, in any of its lines."""
    found = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, *filter(None, [node.module])])
            base = base if node.level else node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
    return (found & known.keys()) - {name}


def circles(graph: dict[str, set[str]]) -> int:
    """Return how many imports have to go until no module imports itself by others."""
    graph = {name: set(to) for name, to in graph.items()}
    count = 0
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as exc:
            # Each is imported by the next of the list.
            imported, importer = exc.args[1][:2]
            graph[importer].discard(imported)
            count += 1
        else:
            return count


def attributes(node: ast.ClassDef) -> set[str]:
    """Return the names that methods of a class assign to ``self``."""
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }


def comment_lines(text: str) -> int:
    """Return how many lines of *text* are comments for readers, and nothing else."""
    return sum(
        token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    )


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield the docstring of each function and method in *tree*."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (
            text := ast.get_docstring(node)
        ):
            yield text


def measure() -> Shape:
    """Return the shape of all there is in the source."""
    known = modules()
    texts = {name: path.read_text() for name, path in known.items()}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    lengths = [len(text.splitlines()) for text in texts.values()]
    classes = [
        node
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    methods = [
        sum(isinstance(e, (ast.FunctionDef, ast.AsyncFunctionDef)) for e in node.body)
        for node in classes
    ]
    folders = Counter(path.parent for path in known.values())
    names = Counter(node.name for node in classes)
    said = [text for tree in trees.values() for text in docstrings(tree)]
    comments = sum(map(comment_lines, texts.values()))
    return Shape(
        lines=sum(lengths),
        longest_file=max(lengths),
        long_files=sum(length > LONG for length in lengths),
        most_methods=max(methods),
        most_attributes=max(len(attributes(node)) for node in classes),
        largest_folder=max(folders.values()),
        circles=circles({n: imports(n, path, known) for n, path in known.items()}),
        class_names_twice=sum(count > 1 for count in names.values()),
        vague_docstrings=sum(text.split(maxsplit=1)[0] in VAGUE for text in said),
        comment_percent=round(100 * comments / sum(lengths), 1),
    )


def main() -> int:
    """Print what was measured, a line each."""
    for name, value in measure()._asdict().items():
        print(f"{name.replace('_', ' '):20}{value:>10}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
