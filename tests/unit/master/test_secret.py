"""The key file: ours alone, or refused with a sentence that keeps its secret."""

import base64
import os

import pytest

from maitred.errors import ExitCode, UsageError
from maitred.master.secret import lend, load_keys
from maitred.routing.seal import FILE_LIMIT, KEY_SIZE, parse_keys

KEY = b"k" * KEY_SIZE
LINE = b"k1:" + base64.b64encode(KEY) + b"\n"


@pytest.fixture
def file(tmp_path):
    """Make a key file that nobody can object to."""
    path = tmp_path / "keys"
    path.write_bytes(LINE)
    path.chmod(0o600)
    return path


def refusal(path):
    """Give the sentence with which *path* is refused."""
    with pytest.raises(UsageError) as refused:
        load_keys(str(path))
    assert refused.value.exit_code is ExitCode.USAGE
    text = str(refused.value)
    assert text.startswith(f"--sticky-key-file {path}: ")
    assert base64.b64encode(KEY).decode() not in text
    assert "\n" not in text
    return text.removeprefix(f"--sticky-key-file {path}: ")


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_file_of_ours_alone_is_read(file, mode):
    """Mode 0600, or stricter."""
    file.chmod(mode)
    assert load_keys(str(file)) == {"k1": KEY}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o602, 0o601, 0o700])
def test_file_that_others_may_use_is_refused(file, mode):
    """The sentence says what to do."""
    file.chmod(mode)
    assert refusal(file) == (
        f"has mode {mode:04o}; only its owner may know it: chmod 600 {file}"
    )


def test_file_of_somebody_else_is_refused(file, monkeypatch):
    """Its owner could have chosen the keys."""
    if os.geteuid() == 0:
        os.chown(file, 12345, -1)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert refusal(file).startswith(f"belongs to user {file.stat().st_uid}, not to ")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have files of root's")
@pytest.mark.parametrize(
    ("mode", "is_read"), [(0o600, 1), (0o440, 1), (0o640, 1), (0o660, 0), (0o644, 0)]
)
def test_roots_file_may_be_given_to_a_group(file, monkeypatch, mode, is_read):
    """Who may read it and is not root cannot change it."""
    file.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if is_read:
        assert load_keys(str(file)) == {"k1": KEY}
    else:
        assert refusal(file).startswith(f"has mode {mode:04o}; only root and its group")


def test_file_that_is_not_there_is_refused(tmp_path):
    """The sentence says how to make one."""
    why = refusal(tmp_path / "keys")
    assert why.startswith("cannot be read (No such file or directory); make a line")


def test_what_is_no_file_is_refused(tmp_path):
    """A directory; a pipe on which nobody writes, without waiting."""
    assert refusal(tmp_path) == "is no regular file"
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refusal(tmp_path / "pipe") == "is no regular file"


def test_contents_are_checked(file):
    """What is wrong with a line is told with its number."""
    file.write_bytes(b"nonsense\n")
    assert refusal(file).startswith("line 1 is not id:base64; make a line with:")


def test_endless_file_is_refused(file):
    """Nothing is read that no key file can be."""
    file.write_bytes(b"#" * (FILE_LIMIT + 1))
    assert refusal(file).startswith(f"is larger than {FILE_LIMIT} bytes;")


def test_without_a_file_each_start_has_its_own_key():
    """What another start signed is not believed."""
    [[one], [two]] = (load_keys("").values() for _ in range(2))
    assert len(one) == len(two) == KEY_SIZE
    assert one != two


def test_keys_are_lent_from_the_start():
    """A worker reads what the master knows, and its child processes inherit nothing."""
    fd = lend({"k1": KEY, "k0": KEY[::-1]})
    assert not os.get_inheritable(fd)
    with open(fd, "rb") as file:
        assert parse_keys(file.read(), "f") == {"k1": KEY, "k0": KEY[::-1]}
