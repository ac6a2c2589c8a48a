"""
The admin process: metrics, health and what a page needs, over HTTP.

It is a process of its own (``python -m maitred.admin``), started by a master that was
given ``--admin``. All it knows it asks over the control socket, as anybody could.
"""
