"""HTTP clients at module level that fetch keys while importing, as ones that check tokens do."""

import os

import httpx
import requests
from flask import Flask

backend = os.environ["BACKEND"]
session = requests.Session()
client = httpx.Client()
assert session.get(f"{backend}/0").text == "0"
assert client.get(f"{backend}/0").text == "0"
app = Flask(__name__)


@app.get("/<int:number>")
def item(number):
    fetch = session if number % 2 else client
    return fetch.get(f"{backend}/{number}").text
