"""A SQLite handle at module level, shared by the threads of a process."""

import os
import sqlite3
import threading

from flask import Flask

lock = threading.Lock()
shop = sqlite3.connect(os.environ["SQLITE"], check_same_thread=False, timeout=30)
shop.execute("PRAGMA journal_mode=WAL")
shop.execute("CREATE TABLE IF NOT EXISTS seen (number INTEGER)")
shop.commit()
app = Flask(__name__)


@app.get("/<int:number>")
def item(number):
    with lock, shop:
        shop.execute("INSERT INTO seen VALUES (?)", (number,))
    return str(number)
