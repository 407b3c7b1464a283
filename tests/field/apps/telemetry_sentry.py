"""A Flask application that reports its errors to Sentry, as the manual of sentry-sdk has it."""

import os

import flask
import sentry_sdk

sentry_sdk.init(dsn=os.environ["SENTRY_DSN"])
app = flask.Flask(__name__)


@app.get("/boom")
def boom() -> str:
    raise RuntimeError("boom")
