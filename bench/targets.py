"""
What maitred wants to reach: one table, and whether it does.

A target of a load is a ratio of rates, maitred's to another's; one of a measure is its
value. What counts is the median over the rounds.
"""

from dataclasses import dataclass
from statistics import median

from contenders import CONTENDERS, OURS
from figures import ratios, values
from loads import LOADS
from measures import MEASURES


@dataclass(frozen=True)
class Target:
    """At least, or at most, so much."""

    question: str
    contender: str
    "The other, for a load; who is measured, for a measure."
    least: float | None = None
    most: float | None = None

    @property
    def title(self):
        title = {**LOADS, **MEASURES}[self.question].title
        name = CONTENDERS[self.contender].title
        if self.question in LOADS:
            return f"{title}, {CONTENDERS[OURS].title} to {name}"
        return f"{title}, {name}"

    def found(self, runs):
        """Give what was measured, one for each round."""
        find = ratios if self.question in LOADS else values
        return find(runs, self.question, self.contender)

    def is_met(self, found):
        if self.least is not None:
            return median(found) >= self.least
        return median(found) <= self.most

    @property
    def bound(self):
        if self.least is not None:
            return f"at least {self.least:g}"
        return f"at most {self.most:g}"


KIB = 1024
TARGETS = (
    Target("keepalive", "uvicorn", least=1.0),
    Target("keepalive", "nginx", least=1.4),
    Target("keepalive", "haproxy", least=1.4),
    Target("hop", "nginx", least=0.8),
    Target("connect", "uvicorn", least=0.95),
    Target("connect", "nginx", least=1.0),
    Target("connect", "haproxy", least=1.0),
    Target("connect", "node", least=1.5),
    Target("large", "uvicorn", least=0.98),
    Target("balance", "maitred", most=1.05),
    Target("memory", "maitred", most=KIB),
    Target("memory", "maitred-no-copies", most=0),
    Target("peek", "maitred", most=1.5),
    Target("silent", "maitred", most=1.5),
)
