"""Count the downloads and uploads of a session."""

import os

from shiny import App, reactive, render, ui

app_ui = ui.page_fluid(
    ui.input_file("file", "File"),
    ui.download_button("report", "Report"),
    ui.output_text("line"),
)


def server(input, output, session):  # noqa: A002 - Shiny's own names
    files = reactive.value(0)

    @reactive.effect
    @reactive.event(input.file)
    def _():
        files.set(files.get() + 1)

    @render.text
    def line():
        return f"process {os.getpid()} has {files.get()} files of this session"

    @render.download_button(filename="report.txt")
    def report():
        with reactive.isolate():
            yield f"{os.getpid()} {files.get()}"


app = App(app_ui, server)
