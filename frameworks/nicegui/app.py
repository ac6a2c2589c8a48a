"""Count the clicks and the files of a page."""

import os

from fastapi import FastAPI
from nicegui import ui

app = FastAPI()


@ui.page("/")
def page():
    state = {"clicks": 0, "files": 0}

    def show():
        line.text = (
            f"process {os.getpid()} has {state['clicks']} clicks"
            f" and {state['files']} files"
        )

    def count(what):
        state[what] += 1
        show()

    line = ui.label()
    show()
    ui.button("Click", on_click=lambda: count("clicks"))
    ui.upload(auto_upload=True, on_upload=lambda _: count("files"))


ui.run_with(app)
