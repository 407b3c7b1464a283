"""A chat room over several processes, as python-socketio's documentation has it."""

import os

import socketio

manager = socketio.AsyncRedisManager(os.environ["REDIS"])
sio = socketio.AsyncServer(async_mode="asgi", client_manager=manager)
app = socketio.ASGIApp(sio)


@sio.event
async def connect(sid, environ):
    await sio.enter_room(sid, "everybody")


@sio.event
async def say(sid, text):
    await sio.emit("said", text, room="everybody")


@sio.event
async def worker(sid):
    return os.getpid()
