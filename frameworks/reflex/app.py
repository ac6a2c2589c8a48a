"""Count the clicks of a page: Reflex's backend, without its frontend."""

import os

import reflex as rx


class State(rx.State):
    """What is kept for each client."""

    clicks: int = 0
    process: int = 0

    @rx.event
    def click(self):
        """Count."""
        self.clicks += 1
        self.process = os.getpid()


def index():
    return rx.button("Click", on_click=State.click)


counter = rx.App()
counter.add_page(index)
app = counter()
