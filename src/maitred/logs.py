"""
How master and workers log: one line an event, to standard error.

Severities, as in Postfix: error = cannot go on with something; warning = an
operator should look; info = what is going on; debug = how.
"""

from __future__ import annotations

import logging
import logging.config
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")

master = logging.getLogger("maitred.master")
worker = logging.getLogger("maitred.worker")
keeper = logging.getLogger("maitred.keeper")


def configure(level: str, *, access_log: bool = True) -> None:
    """
    Send the logs of maitred and of the server inside the workers to standard error.

    Args:
        level: One of LEVELS.
        access_log: Whether the server's access log is wanted.
    """
    server_level = "DEBUG" if level == "debug" else "WARNING"
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {
                    "format": "%(asctime)s %(levelname)-7s [%(process)d] %(message)s"
                },
            },
            "handlers": {
                "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
            },
            "loggers": {
                "maitred": {
                    "handlers": ["stderr"],
                    "level": level.upper(),
                    "propagate": False,
                },
                "uvicorn.error": {
                    "handlers": ["stderr"],
                    "level": server_level if level != "error" else "ERROR",
                    "propagate": False,
                },
                "uvicorn.access": {
                    "handlers": ["stderr"] if access_log else [],
                    "level": "INFO",
                    "propagate": False,
                },
            },
        }
    )
