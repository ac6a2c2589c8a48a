"""Count the clicks of a page."""

import os

import solara


@solara.component
def Page():  # noqa: N802 - the name that Solara looks for
    clicks, set_clicks = solara.use_state(0)
    solara.Button("Click", on_click=lambda: set_clicks(clicks + 1))
    solara.Text(f"process {os.getpid()} has {clicks} clicks")
