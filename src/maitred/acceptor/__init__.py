"""
One acceptor: a connection's way from the listener to where it waits for a worker.

    listeners          the sockets, bound here or passed (socket_activation)
    accept_loop        accepts, a few at once, as far as there is room
    connection         one connection that no worker has
    per_source_limit   how many come from one address
    peek               looks at the first bytes until the router can decide
    waiting_room       where a decided connection waits for its worker
    rescue             what a dead worker left of a connection that was copied
    refusals           answers in a worker's place

May import ``wire``, ``routing``, ``placement``, and ``upgrade`` for what a successor is
told; not ``master``, which puts the parts together and has the workers.
"""
