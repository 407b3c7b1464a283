"""A Flask application with a background scheduler started at import, as tutorials have it."""

import os

from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask

app = Flask(__name__)


def job():
    with open(os.environ["TICKS"], "a") as file:
        file.write(f"{os.getpid()}\n")


scheduler = BackgroundScheduler()
scheduler.add_job(job, "interval", seconds=0.05)
scheduler.start()


@app.get("/")
def index():
    return str(os.getpid())
