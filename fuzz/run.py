"""
Fuzz one target: ``python fuzz/run.py TARGET SECONDS``. Started by script/fuzz.

What reaches new code is kept in fuzz/corpus/TARGET, as small as libFuzzer can make it;
bytes that break an invariant are written to fuzz/found/TARGET, and the exit code
says so.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=[
        "maitred.routing",
        "maitred.wire.codec",
        "maitred.worker.gate",
        "maitred.worker.handshake",
        "maitred.worker.parsers",
    ]
):
    from targets import TARGETS

from corpus import load
from heads import BAD, GOOD
from hellos import BAD_CONTENT, RECORDED, message, records
from hellos import GOOD as GOOD_HELLOS
from maitred.wire.codec import Codec
from maitred.wire.messages import FROM_MASTER, FROM_WORKER, Claim, Drain, Taken

HERE = Path(__file__).parent
LONGEST = 4096


def seeds(target: str) -> list[bytes]:
    """Give what to begin with."""
    if target == "tls":
        whole = [message(content) for content in BAD_CONTENT.values()]
        whole += [data for data, *_ in GOOD_HELLOS.values()]
        hellos = [records(each, size) for each in whole for size in (100, 16384)]
        hellos += [each.data for each in RECORDED.values()]
        return [each for each in hellos if len(each) < LONGEST]
    requests = [
        *(item.data for kind in ("valid", "invalid") for item in load(kind).values()),
        *GOOD.values(),
        *(data for data, _ in BAD.values()),
    ]
    requests = [each for each in requests if len(each) < LONGEST]
    if target == "codec":
        wire = Codec(sends={**FROM_MASTER, **FROM_WORKER}, receives={})
        return [
            wire.encode([message])[0]
            for message in (Taken(7), Drain(9), Claim(1, 0, b"key"))
        ]
    if target in {"gate", "seam", "chunked"}:
        bodies = [each.partition(b"\r\n\r\n")[2] for each in requests]
        chosen = [each for each in bodies if each] if target == "chunked" else requests
        return [b"\x20" + each for each in chosen]
    return requests


def fuzz(target: str, seconds: int) -> int:
    """Fuzz in a process of its own, then keep the least that covers as much."""
    kept, found = HERE / "corpus" / target, HERE / "found" / target
    kept.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        grown, least = Path(scratch, "grown"), Path(scratch, "least")
        shutil.copytree(kept, grown)
        least.mkdir()
        for data in seeds(target):
            (grown / hashlib.sha1(data).hexdigest()).write_bytes(data)
        # libFuzzer starts itself anew, by its name alone.
        program = Path(scratch, "program")
        program.write_text(
            f'#!/bin/sh\nexec {sys.executable} {__file__} --child {target} "$0" "$@"\n'
        )
        program.chmod(0o700)
        command = [str(program)]
        code = subprocess.run(
            [*command, f"-max_total_time={seconds}", f"-max_len={LONGEST}",
             "-print_final_stats=1", f"-artifact_prefix={found}/", str(grown)],
            check=False,
        ).returncode  # fmt: skip
        subprocess.run(
            [*command, "-merge=1", f"-max_len={LONGEST}", str(least), str(grown)],
            check=False,
            capture_output=True,
        )
        if code == 0 and any(least.iterdir()):
            shutil.rmtree(kept)
            shutil.copytree(least, kept)
    return code


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        atheris.Setup(sys.argv[3:], TARGETS[sys.argv[2]])
        atheris.Fuzz()
    else:
        sys.exit(fuzz(sys.argv[1], int(sys.argv[2])))
