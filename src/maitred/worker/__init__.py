"""
The other end: serves the application on connections that a master hands over.

Read ``runtime`` first, then ``uvicorn_seam`` (how a server is given a connection).
"""
