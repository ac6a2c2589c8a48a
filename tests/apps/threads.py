"""An application with a thread that never ends, and that is no daemon."""

import threading

from probe import app

__all__ = ["app"]

threading.Thread(target=threading.Event().wait).start()
