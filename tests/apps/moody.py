"""
The probe in a mood, which is written in the file that the environment's MOOD names.

    die     end the process while it is imported
    raise   raise while it is imported
    hang    never finish being imported
    deaf    likewise, and do not listen to TERM
    refuse  say in the lifespan's startup that it failed, as Starlette does
    stumble raise in the lifespan's startup
"""

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
    await probe.app(scope, receive, send)
