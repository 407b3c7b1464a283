"""Datasette with a database of two books."""

import os
import pathlib
import sqlite3

from datasette.app import Datasette

PATH = pathlib.Path(os.environ["PLACE"], "books.db")
if not PATH.exists():
    with sqlite3.connect(PATH) as database:
        database.execute("CREATE TABLE books (id INTEGER PRIMARY KEY, title TEXT)")
        database.execute("INSERT INTO books (title) VALUES ('one'), ('two')")
    database.close()

app = Datasette([str(PATH)]).app()
