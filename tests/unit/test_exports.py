"""What is public: exactly this, and all of it can be imported."""

import importlib
import pkgutil

import pytest

import maitred

PUBLIC = {
    "maitred": {
        *(
            "Channel",
            "Owner",
            "Descriptor",
            "Passed",
            "Blob",
            "U8",
            "U16",
            "U32",
            "U64",
        ),
        *("MAX_DESCRIPTORS", "MAX_PACKET"),
        *("MaitredError", "ChannelError", "ChannelClosed", "ChannelFull"),
        "ChannelRefused",
        *("DescriptorsLost", "MessageTooLarge", "PeerMisbehaved"),
    },
    "maitred.wire": {
        *(
            "Channel",
            "Owner",
            "Descriptor",
            "Passed",
            "Blob",
            "U8",
            "U16",
            "U32",
            "U64",
        ),
        *("MAX_DESCRIPTORS", "MAX_PACKET"),
    },
    "maitred.routing": {
        *("HEAD_LIMIT", "Head", "Homes", "Response"),
        *("NEED_MORE", "NeedMore", "Match", "NoMatch", "Verdict"),
        *("Affinity", "affinity", "affinities", "PRESETS", "PLACES"),
        *("Router", "TlsRouter", "Seal"),
        *("Sniffer", "SNIFFERS", "Reply", "refused", "sniffer_of"),
        *("FieldsRouter", "fields_router"),
    },
    "maitred.placement": {
        *("POLICIES", "Policy", "Contents", "KeyTable", "Owned", "Page", "Placement"),
        "Slot",
    },
    "maitred.supervision": {
        *("Supervisor", "Times", "Failures", "WorkerState", "Worn", "Pulse"),
        *("SaidReady", "Exited", "Hung", "Tick"),
        *("Action", "Order", "Spawn", "Promote", "Drain", "Stop", "Abort", "Kill"),
        *("Report", "AllReady", "ReloadFailed", "Finish"),
    },
    "maitred.control": {
        *("COMMANDS", "Argument", "Command", "ControlServer", "Level", "Lines"),
        *("Request", "ask", "find", "path_of", "read_key", "services", "spell"),
        *("NoControl", "open_control"),
    },
    "maitred.logs": {
        *("FORMATS", "AUTO", "LEVELS", "ACCESS_FORMATS", "LAST_WORDS", "MOST", "PIECE"),
        *("begin", "configure", "flush", "say", "dropped", "reopen", "heed_reopen"),
        *("master", "worker", "keeper", "Seldom", "about", "traces", "hash_of"),
        *("access", "AccessLog", "Entry", "File", "Writer"),
    },
    "maitred.master": {"Keeper", "Master", "arrive", "open_admin", "open_listeners"},
}

PACKAGES = [
    each.name
    for each in pkgutil.iter_modules(maitred.__path__, "maitred.")
    if each.ispkg
]


@pytest.mark.parametrize("name", ["maitred", *PACKAGES])
def test_package_exports_what_is_listed_here(name):
    """A package's face is a decision: nothing is added or lost by accident."""
    exported = getattr(importlib.import_module(name), "__all__", [])
    assert set(exported) == PUBLIC.get(name, set())
    assert len(exported) == len(set(exported))


@pytest.mark.parametrize("name", PUBLIC)
def test_exported_names_exist(name):
    """What is promised is there."""
    module = importlib.import_module(name)
    assert all(hasattr(module, each) for each in PUBLIC[name])


@pytest.mark.parametrize("name", sorted(PUBLIC["maitred"]))
def test_public_library_is_one_thing_under_two_names(name):
    """The package's face shows what stands deeper, not copies of it."""
    deeper = maitred.errors if hasattr(maitred.errors, name) else maitred.wire
    assert getattr(maitred, name) is getattr(deeper, name)
