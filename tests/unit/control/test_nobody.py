"""A service that nobody can ask, and what is said where no socket can be made."""

import errno

import pytest

from maitred.config import Settings
from maitred.control import NoControl, ask, open_control, server
from maitred.errors import SystemRefused, UsageError


def answer(_request):
    """Answer nobody."""
    raise AssertionError


def test_none_is_no_socket(tmp_path, monkeypatch):
    """No file is made, and whoever asks is told what steers such a service."""
    monkeypatch.chdir(tmp_path)
    control = open_control("none", answer)
    assert isinstance(control, NoControl)
    control.serve()
    assert control.state(lambda _: 0)["path"] == "none"
    control.close()
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="HUP reloads, USR2 upgrades"):
        ask("none", "status")


@pytest.mark.parametrize("option", ["admin", "control_group"])
def test_who_would_ask_is_refused(option):
    """Admin process and group have nowhere to ask."""
    with pytest.raises(UsageError, match="--control none with --"):
        Settings(target="a:b", control="none", **{option: "127.0.0.1:1"})


def test_read_only_file_system_is_told_what_to_do(tmp_path, monkeypatch):
    """Where nothing can be written: another place, or none."""

    def refuse(*_args):
        """Be read-only."""
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(server, "_listen", refuse)
    with pytest.raises(SystemRefused) as refusal:
        open_control(str(tmp_path / "control.sock"), answer)
    assert str(refusal.value).endswith(
        "Read-only file system; choose another with --control PATH, such as"
        " /dev/shm/maitred/control.sock, or do without one: --control none"
    )
