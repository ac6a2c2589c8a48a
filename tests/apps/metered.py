"""The probe, with metrics of its own: requests, and how many workers are alive."""

import probe
from prometheus_client import Counter, Gauge

REQUESTS = Counter("app_requests", "Requests that the application has seen.")
ALIVE = Gauge("app_workers_alive", "Workers.", multiprocess_mode="livesum")
ALIVE.set(1)


async def app(scope, receive, send):
    """Serve one scope."""
    if scope["type"] == "http":
        REQUESTS.inc()
    await probe.app(scope, receive, send)
