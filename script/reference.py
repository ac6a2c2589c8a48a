#!/usr/bin/env python3
"""
Write the parts of the documentation that are derived from the code.

    script/reference.py          rewrite what is stale
    script/reference.py --check  name what is stale, and exit with 1 if anything is

A generated part stands between two comments in a document; everything around it is
written by hand. tests/test_docs.py fails when a part is stale.
"""

import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_type_hints

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from maitred.wire.codec import HEADER, Codec, layout  # noqa: E402 - the path is first
from maitred.wire.descriptor import Descriptor  # noqa: E402
from maitred.wire.messages import (  # noqa: E402
    BLOB,
    DESCRIPTOR,
    FROM_MASTER,
    FROM_WORKER,
    MESSAGES,
    Handoff,
    Kind,
    Phase,
    Reason,
    Taken,
)

PART = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def messages() -> Iterator[str]:
    """The table of all messages."""
    yield "| number | message | said by | while | descriptor | bytes of a record |"
    yield "|---:|---|---|---|---|---:|"
    for entry in MESSAGES:
        form = layout(entry.number, entry.message)
        name = entry.message.__name__.upper()
        phases = ", ".join(p.value for p in Phase if p in entry.phases) or "(reserved)"
        passes = "one per record" if form.descriptor is not None else ""
        yield (
            f"| {entry.number} | [{name}](#{name.lower()}) | {entry.sender.value}"
            f" | {phases} | {passes} | {form.record.size} |"
        )


def fields() -> Iterator[str]:
    """Each message and the fields of its record."""
    for entry in MESSAGES:
        yield f"### {entry.message.__name__.upper()}"
        yield ""
        yield markdown(entry.message.__doc__ or "")
        yield ""
        hints = get_type_hints(entry.message, include_extras=True)
        kinds = {
            name: next(each for each in hint.__metadata__ if isinstance(each, Kind))
            for name, hint in hints.items()
        }
        if not kinds:
            yield "The record is empty."
            yield ""
            continue
        yield "| offset | bytes | field | |"
        yield "|---:|---:|---|---|"
        offset = 0
        for name, kind in kinds.items():
            if kind is DESCRIPTOR:
                yield f"| | | `{name}` | the descriptor, in the packet's SCM_RIGHTS |"
                continue
            size = struct.calcsize("!" + kind.code)
            what = "length of the blob" if kind is BLOB else "number"
            yield f"| {offset} | {size} | `{name}` | {what} |"
            offset += size
        yield ""


def reasons() -> Iterator[str]:
    """The reasons of REFUSED."""
    # The sentence after each member is its documentation; only the source has it.
    source = (ROOT / "src/maitred/wire/messages.py").read_text()
    yield "| number | reason | |"
    yield "|---:|---|---|"
    for reason in Reason:
        found = re.search(rf'    {reason.name} = {reason.value}\n    "(.*)"\n', source)
        assert found, f"{reason.name} has no sentence"
        yield f"| {reason.value} | {reason.name} | {found[1]} |"


def dump() -> Iterator[str]:
    """One handoff and its answer, byte for byte."""
    codec = Codec(sends={**FROM_MASTER, **FROM_WORKER}, receives={})
    handoff = Handoff(
        connection=Descriptor(-1),
        id=0x2A17,
        peer=b"192.0.2.7",
        peer_port=50123,
        local=b"198.51.100.1",
        local_port=443,
        key=b"sid=f00d",
        once=0,
        consumed=b"",
    )
    for title, message in (
        ("HANDOFF, with one descriptor in SCM_RIGHTS:", handoff),
        ("TAKEN, the answer:", Taken(handoff.id)),
    ):
        packet, _ = codec.encode([message])
        yield title
        yield ""
        yield "```"
        yield from rows(packet, message)
        yield "```"
        yield ""


def rows(packet: bytes, message: Handoff | Taken) -> Iterator[str]:
    """Explain every byte of *packet*, which holds *message*."""
    names = ["version", "type", "descriptors", "records", "zero", "length"]
    codes = ["B", "B", "H", "H", "H", "I"]
    blobs = []
    for name, hint in get_type_hints(type(message), include_extras=True).items():
        [kind] = hint.__metadata__
        if kind is BLOB:
            blobs.append(name)
        names += [f"length of {name}" if kind is BLOB else name] * bool(kind.code)
        codes += [kind.code] * bool(kind.code)
    at = 0
    for name, code in zip(names, codes, strict=True):
        [value] = struct.unpack_from("!" + code, packet, at)
        size = struct.calcsize("!" + code)
        yield line(at, packet[at : at + size], f"{name} = {value}")
        at += size
        if at == HEADER.size:
            yield ""
    if blobs:
        yield ""
    for name in blobs:
        blob: bytes = getattr(message, name)
        if blob:
            yield line(at, blob, f"{name} = {blob.decode()!r}")
        at += len(blob)
    assert at == len(packet)


def line(at: int, data: bytes, meaning: str) -> str:
    """Write one line of a dump."""
    return f"{at:4}  {data.hex(' '):36}  {meaning}"


def example(name: str) -> Iterator[str]:
    """The code of an example."""
    yield "```python"
    yield (ROOT / "examples" / name).read_text().rstrip()
    yield "```"


def markdown(docstring: str) -> str:
    """Turn a docstring into a paragraph."""
    return re.sub(r"\n +", "\n", docstring.strip()).replace("``", "`")


PARTS: dict[str, dict[str, Callable[[], Iterator[str]]]] = {
    "docs/reference/channel.md": {
        "messages": messages,
        "fields": fields,
        "reasons": reasons,
        "dump": dump,
    },
    "docs/howto/own-master-and-worker.md": {
        "example": lambda: example("channel_in_15_lines.py"),
    },
}


def rewritten(document: str) -> str:
    """Return the text of *document* with every part of it made anew."""
    parts = dict(PARTS[document])

    def make(found: re.Match[str]) -> str:
        lines = parts.pop(found[2])()
        return f"{found[1]}\n" + "\n".join(lines).rstrip() + f"\n\n{found[3]}"

    text = PART.sub(make, (ROOT / document).read_text())
    assert not parts, f"{document} has no place for {', '.join(parts)}"
    return text


def stale() -> dict[str, str]:
    """Map each document that is stale to what it should be."""
    return {
        document: text
        for document in PARTS
        if (text := rewritten(document)) != (ROOT / document).read_text()
    }


def main(arguments: list[str]) -> int:
    """Rewrite what is stale, or only name it."""
    if arguments not in ([], ["--check"]):
        print("usage: script/reference.py [--check]", file=sys.stderr)
        return 2
    documents = stale()
    for document, text in documents.items():
        if arguments:
            print(f"{document} is stale: run script/reference.py", file=sys.stderr)
        else:
            (ROOT / document).write_text(text)
            print(f"rewrote {document}")
    return 1 if documents and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
