"""Count the calls of a session."""

import os

import gradio as gr
from fastapi import FastAPI


def click(count):
    return count + 1, f"process {os.getpid()} has {count + 1} clicks"


with gr.Blocks() as blocks:
    state = gr.State(0)
    line = gr.Textbox(label="Line")
    gr.Button("Click").click(click, state, [state, line], api_name="click")

app = gr.mount_gradio_app(FastAPI(), blocks, path="/")
