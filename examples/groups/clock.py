"""Something that must happen once, whatever is reloaded. Says by systemd's protocol how it is."""

import os
import signal
import socket
import threading
import time

ending = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ending.set())


def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))


say("READY=1")
while not ending.wait(60):
    say(f"STATUS=it is {time.strftime('%H:%M')}")
