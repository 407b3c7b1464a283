"""A cache that is pinged while importing, to fail early."""

import os

import redis
from flask import Flask

cache = redis.from_url(os.environ["REDIS"])
cache.ping()
app = Flask(__name__)


@app.get("/<int:number>")
def item(number):
    cache.set(f"item:{number}", number)
    return cache.get(f"item:{number}").decode()
