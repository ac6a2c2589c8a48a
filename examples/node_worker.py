"""
Serve with Node: maitred serve "python examples/node_worker.py examples/app.js" --exec

Node's own cluster hands connections to its workers over the socket NODE_CHANNEL_FD: a
line of JSON each, and the descriptor (child_process, "subprocess.send"). This does the
same: it is the worker, and Node, which it starts, has the connections. The channel
speaks SOCK_SEQPACKET and numbers, which Node does not without native code.
"""

import base64
import json
import os
import selectors
import socket
import subprocess
import sys
from collections import deque
from typing import Any

from maitred import Channel, ChannelClosed, DescriptorsLost
from maitred.wire import messages as wire


class Helper:
    """Stands between the master and Node."""

    def __init__(self, command: list[str]) -> None:
        self.master = Channel(
            socket.socket(fileno=int(os.environ["MAITRED_CHANNEL"])),
            sends=wire.FROM_WORKER,
            receives=wire.FROM_MASTER,
        )
        os.set_inheritable(self.master.fileno(), False)
        self.node, theirs = socket.socketpair()
        environment = dict(os.environ, NODE_CHANNEL_FD=str(theirs.fileno()))
        self.process = subprocess.Popen(
            command, env=environment, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        # Handed to Node, which has not said yet whether it got them.
        self.on_their_way: deque[int] = deque()
        self.said = b""

    def run(self) -> int:
        both = selectors.DefaultSelector()
        both.register(self.master, selectors.EVENT_READ, self.hear_master)
        both.register(self.node, selectors.EVENT_READ, self.hear_node)
        try:
            while True:
                for key, _ in both.select():
                    key.data()
        except ChannelClosed:
            self.process.kill()
        except EOFError:  # Node has left: others get what it had not taken
            pass
        return abs(self.process.wait())

    def hear_master(self) -> None:
        try:
            messages = self.master.receive()
        except DescriptorsLost as error:  # we are at our limit of open files
            for message in error.messages:
                self.refuse(message.id)
            return
        for message in messages:
            if isinstance(message, wire.Handoff):
                self.hand_over(message)
            elif isinstance(message, wire.Drain):
                self.tell({"drain": message.timeout_ms / 1000})
            elif isinstance(message, wire.Quit):
                raise ChannelClosed

    def hand_over(self, message: wire.Handoff) -> None:
        # The id as text: it has 64 bits, a number of JavaScript 53.
        about = {"id": str(message.id), "peer": message.peer.decode()}
        about["consumed"] = base64.b64encode(message.consumed).decode()
        handle = {"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": about}
        with message.connection as connection:
            self.tell(handle, connection.fileno())
        self.on_their_way.append(message.id)

    def tell(self, what: dict[str, Any], *descriptors: int) -> None:
        line = json.dumps(what).encode() + b"\n"
        socket.send_fds(self.node, [line], descriptors)

    def refuse(self, number: int) -> None:
        self.master.send(wire.Refused(number, wire.Reason.NO_DESCRIPTOR))

    def hear_node(self) -> None:
        heard = self.node.recv(65536)
        if not heard:
            raise EOFError
        *lines, self.said = (self.said + heard).split(b"\n")
        for line in lines:
            match json.loads(line):
                case {"cmd": "NODE_HANDLE_ACK"}:
                    self.master.send(wire.Taken(self.on_their_way.popleft()))
                case {"cmd": "NODE_HANDLE_NACK"}:  # Node is at its limit
                    self.refuse(self.on_their_way.popleft())
                case {"closed": number}:
                    self.master.send(wire.Closed(int(number)))
                case {"drained": cut}:
                    self.master.send(wire.Drained(cut))
                case {"ready": True}:
                    self.master.send(wire.Ready(self.process.pid))


sys.exit(Helper(["node", *sys.argv[1:]]).run())
