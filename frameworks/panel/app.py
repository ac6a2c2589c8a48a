"""Count the clicks of a session."""

import os

import panel as pn
from fastapi import FastAPI
from panel.io.fastapi import add_application

app = FastAPI()


@add_application("/counter", app=app, title="Counter")
def counter():
    state = {"clicks": 0}

    def line():
        return f"process {os.getpid()} has {state['clicks']} clicks"

    def click(_event):
        state["clicks"] += 1
        text.value = line()

    button = pn.widgets.Button(name="Click")
    text = pn.widgets.StaticText(value=line())
    button.on_click(click)
    return pn.Column(button, text)
