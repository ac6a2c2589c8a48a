"""The cases in which the hand-off is explored, and tried on the real acceptor."""

from __future__ import annotations

from model.handoff import Case

CASES = {
    "a crash and a reload between three requests": Case(
        owners=(0, 1, 0), parts=1, drains=1
    ),
    "two crashes, a client who leaves, and requests in pieces": Case(
        crashes=2, leaves=True
    ),
    "the same without copies": Case(crashes=2, leaves=True, kept=False),
    "two reloads of a request in pieces, without copies": Case(
        owners=(1,), crashes=0, drains=2, leaves=True, kept=False
    ),
    "a budget that is used up": Case(owners=(0,), parts=1, crashes=2, budget=1),
}
"What is explored: each takes seconds, and all of it together is not much more."
