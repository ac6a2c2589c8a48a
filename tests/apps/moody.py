"""
The probe in a mood, which is written in the file that the environment's MOOD names.

    die     end the process while it is imported
    raise   raise while it is imported
    hang    never finish being imported; who hangs makes MOOD.PID
    deaf    likewise, and do not listen to TERM
    refuse  say in the lifespan's startup that it failed, as Starlette does
    stumble raise in the lifespan's startup
    dawdle  be in the lifespan's startup until there is MOOD.go; who is makes MOOD.PID
"""

import asyncio
import os
import signal
import time
import traceback
from pathlib import Path

import probe

MOOD = Path(os.environ["MOOD"]).read_text()

match MOOD:
    case "die":
        os._exit(9)
    case "raise":
        raise LookupError("not today")
    case "hang" | "deaf":
        if MOOD == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(f"{os.environ['MOOD']}.{os.getpid()}").touch()
        time.sleep(3600)


async def app(scope, receive, send):
    """Serve one scope."""
    if scope["type"] == "lifespan" and MOOD in {"refuse", "stumble"}:
        await receive()
        try:
            raise LookupError("no startup today")
        except LookupError:
            if MOOD == "stumble":
                raise
            failed = {"type": "lifespan.startup.failed"}
            await send(failed | {"message": traceback.format_exc()})
            return
    if scope["type"] == "lifespan" and MOOD == "dawdle":
        Path(f"{os.environ['MOOD']}.{os.getpid()}").touch()
        while not Path(os.environ["MOOD"] + ".go").exists():
            await asyncio.sleep(0.02)
    await probe.app(scope, receive, send)
