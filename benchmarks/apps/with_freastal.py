"""Freastal has no command of its own: `with_freastal.py asgi|wsgi PORT MODULE`, one worker."""

import importlib
import sys

import freastal  # type: ignore[import-not-found]

serve = freastal.serve_asgi if sys.argv[1] == "asgi" else freastal.serve
serve(importlib.import_module(sys.argv[3]).app, host="127.0.0.1", port=int(sys.argv[2]), workers=1)
