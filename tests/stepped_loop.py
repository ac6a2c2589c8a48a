"""
An event loop whose clock stands still until a test moves it.

Nothing here waits: where the loop would wait for a timer or a descriptor, it stops, and
the test goes on. So a deadline of 30 seconds is tested in no time, and it passes at the
same moment in every run.
"""

import asyncio
import selectors

RESOLUTION = 1e-9
"Seconds; a timer that is due so soon is due now, for rounding's sake."
MOST_ROUNDS = 10_000
"Rounds of the loop until it has nothing to do; more are a loop without end."


class _Selector(selectors.EpollSelector):
    """Looks at the descriptors, and stops the loop instead of waiting for them."""

    loop: "SteppedLoop"
    pause: float | None = None
    "Seconds until the next timer; None: there is none."
    rounds = 0
    "Since the loop began to turn."

    def select(self, timeout=None):
        """Return what is ready; with nothing to do, stop the loop."""
        events = super().select(0)
        self.rounds += 1
        if not events and (timeout is None or timeout > RESOLUTION):
            self.pause = timeout
            self.loop.stop()
        elif self.rounds > MOST_ROUNDS:
            self.loop.stop()
        return events


class SteppedLoop(asyncio.SelectorEventLoop):
    """Runs as far as it can without waiting; ``time`` is set by hand."""

    def __init__(self, now=1000.0):
        self._now = now
        self._steps = _Selector()
        self._steps.loop = self
        super().__init__(self._steps)
        # What an exception handler would log is a failure of the test.
        self.escaped = []
        self.set_exception_handler(lambda _, context: self.escaped.append(context))

    def time(self):
        """Return the time that the test has set."""
        return self._now

    def turn(self):
        """Run until there is nothing to do at this moment."""
        self._steps.rounds = 0
        self.run_forever()
        assert self._steps.rounds <= MOST_ROUNDS, "there is always something to do"

    def advance(self, seconds):
        """Move the clock by *seconds*, and run each timer in them at its moment."""
        end = self._now + seconds
        self.turn()
        while self._steps.pause is not None and self._now + self._steps.pause <= end:
            self._now += self._steps.pause
            self.turn()
        self._now = end
        self.turn()

    def stand_still(self, seconds):
        """Move the clock by *seconds* in which nothing ran, as in a stopped process."""
        self._now += seconds
        self.turn()

    def call(self, function, *args):
        """Return what *function* returns, called while the loop runs."""

        async def inside():
            return function(*args)

        return self.run_until_complete(inside())
