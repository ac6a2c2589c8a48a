"""``maitred presets``: everything that --affinity knows, with what it looks at."""

import json

from click.testing import CliRunner

from maitred.cli.main import cli
from maitred.routing import PLACES, PRESETS
from maitred.routing.spec import NAMED, PLAIN


def run(*arguments):
    """Run the command; give what it prints."""
    result = CliRunner().invoke(cli, ["presets", *arguments])
    assert result.exit_code == 0
    return result.stdout


def test_everything_is_listed_with_what_it_looks_at():
    """Presets first, each on a line of its own."""
    lines = run().splitlines()
    assert lines[0] == "PRESET"
    listed = dict(line.split(maxsplit=1) for line in lines if line.startswith("  "))
    looks_at = {name: preset.about for name, preset in PRESETS.items()} | PLACES
    assert listed == looks_at
    assert all(looks_at.values())


def test_no_form_is_forgotten():
    """What the option can read is in the list."""
    named = {f"{place}:NAME" for place in NAMED}
    others = {"path:N", "sticky[:NAME]", "module:attribute", "none"}
    assert set(PLACES) == named | set(PLAIN) | others


def test_programs_get_the_same():
    """One list of objects."""
    rows = json.loads(run("--json"))
    assert [row["affinity"] for row in rows] == [*PRESETS, *PLACES]
    assert {row["kind"] for row in rows} == {"preset", "affinity"}
    assert rows[0]["looks_at"] == next(iter(PRESETS.values())).about
