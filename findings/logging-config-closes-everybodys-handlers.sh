#!/usr/bin/env bash
# logging.config.dictConfig({"version": 1, "disable_existing_loggers": False}) closes all
# handlers of the process, also those of loggers that the configuration does not name, and
# leaves them attached. A handler whose close() is final (a connection, a thread) drops
# every record from then on. A server that logs by a handler of its own meets it when the
# application configures logging; "disable_existing_loggers": False is the usual advice.
#
# Expected: a handler that stays attached stays open.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages <<'PYTHON'
import logging.config
import sys


class Line(logging.Handler):
    def __init__(self):
        super().__init__()
        self.kept, self.open = [], True

    def emit(self, record):
        if self.open:
            self.kept.append(record.getMessage())

    def close(self):
        self.open = False
        super().close()


handler = Line()
logger = logging.getLogger("server")
logger.addHandler(handler)
logger.error("before")
logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
logger.error("after")
attached = handler in logger.handlers
print(f"Python {sys.version.split()[0]}")
print(f"attached: {attached}, open: {handler.open}, kept: {handler.kept}")
sys.exit((attached, handler.open, handler.kept) != (True, False, ["before"]))
PYTHON
