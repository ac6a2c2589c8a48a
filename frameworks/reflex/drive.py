"""
Events over Socket.IO, as the scripts of a page send them: ten clicks.

A page makes its token itself. It loses its WebSocket after each click, and connects
again with the same token.
"""

import uuid

import socketio

NAMESPACE = "/_event"
CLICK = "reflex___state____state.app____state.click"


def drive(url, *, users, interactions, patience):
    """Give the answers of every user: process and count."""
    answers = [[] for _ in range(users)]
    tokens = [str(uuid.uuid4()) for _ in range(users)]
    for _ in range(interactions):
        for token, mine in zip(tokens, answers, strict=True):
            try:
                mine.append(click(url, token, patience))
            except socketio.exceptions.SocketIOError as exc:
                mine.append(f"{type(exc).__name__}: {exc}")
    return answers


def click(url, token, patience):
    """Connect, click, and give what has changed."""
    with socketio.SimpleClient(ssl_verify=False) as client:
        client.connect(
            f"{url}/_event/?token={token}",
            transports=["websocket"],
            namespace=NAMESPACE,
            socketio_path="/_event",
            wait_timeout=patience,
        )
        client.emit("event", {"name": CLICK, "payload": {}, "router_data": {}})
        while True:
            _, update = client.receive(timeout=patience)
            for delta in update["delta"].values():
                if "clicks_rx_state_" in delta:
                    return delta["process_rx_state_"], delta["clicks_rx_state_"]
