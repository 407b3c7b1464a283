"""The smallest page of Gradio's."""

import gradio
from fastapi import FastAPI

with gradio.Blocks(title="A page", analytics_enabled=False) as page:
    name = gradio.Textbox(label="Your name")
    greeting = gradio.Textbox(label="Greeting")
    gradio.Button("Greet").click(lambda text: f"Hello {text}!", name, greeting)

app = gradio.mount_gradio_app(FastAPI(), page, path="/")
