"""Count the clicks of a session."""

import marimo

app = marimo.App()


@app.cell
def _():
    import os  # noqa: PLC0415 - as marimo writes notebooks

    import marimo as mo  # noqa: PLC0415 - as above

    clicks, set_clicks = mo.state(0)
    return clicks, mo, os, set_clicks


@app.cell
def _(mo, set_clicks):
    mo.ui.button(label="Click", on_click=lambda _: set_clicks(lambda n: n + 1))


@app.cell
def _(clicks, mo, os):
    mo.md(f"process {os.getpid()} has {clicks()} clicks")
