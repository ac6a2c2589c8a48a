"""Streamlit as an ASGI application."""

from pathlib import Path

from streamlit.starlette import App

app = App(Path(__file__).with_name("page.py"))
