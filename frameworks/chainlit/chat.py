"""Count the messages and the files of a chat."""

import os

import chainlit as cl


@cl.on_chat_start
async def start():
    cl.user_session.set("messages", 0)
    await cl.Message("Hello").send()


@cl.on_message
async def count(message):
    number = cl.user_session.get("messages") + 1
    cl.user_session.set("messages", number)
    await cl.Message(f"process {os.getpid()} has {number} messages").send()
