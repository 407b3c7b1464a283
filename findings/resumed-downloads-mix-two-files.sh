#!/usr/bin/env bash
# Software: whitenoise 6.12.0, aiohttp 3.14.5, tornado 6.6.1, falcon 4.4.0, bottle 0.13.4, CherryPy
#           18.10.0, sanic 25.12.1, blacksheep 2.6.4, starlette 1.10.0, Flask 3.1.3 with Werkzeug
#           3.1.9; below them uvicorn 0.54.0 and cheroot 11.1.2; Python 3.11 or newer, Linux.
# Guess:    a static file server that offers ranges honours If-Range (RFC 9110, section 13.1.5): a
#           download that is resumed with the validator of an older file gets the new file whole.
# Seen:     only Starlette, Flask and blacksheep do. aiohttp honours a date and ignores an ETag,
#           although it sends one. The other six ignore If-Range: the client gets 206 and the rest
#           of the new file, which it appends to the start of the old one. The status, the length
#           and Content-Range are all plausible, so nothing shows that the result is neither file.
set -euo pipefail
place=$(mktemp -d)
server=
trap 'if [[ $server ]]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check whitenoise==6.12.0 aiohttp==3.14.5 \
    tornado==6.6.1 falcon==4.4.0 bottle==0.13.4 CherryPy==18.10.0 sanic==25.12.1 blacksheep==2.6.4 \
    starlette==1.10.0 Flask==3.1.3 Werkzeug==3.1.9 uvicorn==0.54.0 cheroot==11.1.2
cat >serve.py <<'PY'
import asyncio
import os
import sys

name, port = sys.argv[1], int(sys.argv[2])
files = os.path.abspath("files")


def wsgi(app):
    from cheroot.wsgi import Server

    Server(("127.0.0.1", port), app).start()


def asgi(app):
    import uvicorn

    uvicorn.run(app, port=port, log_level="critical")


match name:
    case "whitenoise":
        from whitenoise import WhiteNoise

        wsgi(WhiteNoise(None, root=files, autorefresh=True))
    case "aiohttp":
        from aiohttp import web

        app = web.Application()
        app.router.add_static("/", files)
        web.run_app(app, host="127.0.0.1", port=port, print=None)
    case "tornado":
        from tornado.web import Application, StaticFileHandler

        async def main():
            routes = [("/(.*)", StaticFileHandler, {"path": files})]
            Application(routes).listen(port, "127.0.0.1")
            await asyncio.Event().wait()

        asyncio.run(main())
    case "falcon":
        import falcon

        app = falcon.App()
        app.add_static_route("/", files)
        wsgi(app)
    case "bottle":
        import bottle

        app = bottle.Bottle()
        app.get("/<path>")(lambda path: bottle.static_file(path, root=files))
        wsgi(app)
    case "cherrypy":
        import cherrypy

        cherrypy.config.update({"server.socket_port": port, "log.screen": False})
        options = {"tools.staticdir.on": True, "tools.staticdir.dir": files}
        cherrypy.quickstart(None, "/", {"/": options})
    case "sanic":
        from sanic import Sanic

        app = Sanic("files")
        app.static("/", files, name="files", use_content_range=True)
        app.run(host="127.0.0.1", port=port, single_process=True, access_log=False)
    case "blacksheep":
        from blacksheep import Application

        app = Application()
        app.serve_files(files)
        asgi(app)
    case "starlette":
        from starlette.staticfiles import StaticFiles

        asgi(StaticFiles(directory=files))
    case "flask":
        from flask import Flask

        wsgi(Flask("files", static_folder=files, static_url_path=""))
PY
cat >resume.py <<'PY'
"""Read half of a file, let it be replaced, resume: "old+new" is neither file, "new" is right."""

import http.client
import os
import pathlib
import sys

file = pathlib.Path("files/file.txt")
BEGAN = 1_790_000_000


def write(version, at):
    file.write_text(version * 20)
    os.utime(file, (at, at))


def get(**headers):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", "/file.txt", headers=headers)
    response = connection.getresponse()
    return response.status, response.headers, response.read().decode()


def resume(validator):
    write("1", BEGAN)
    status, headers, start = get(Range="bytes=0-9")
    assert (status, start) == (206, "1" * 10)
    if not headers[validator]:
        return "not sent"
    write("2", BEGAN + 1000)
    status, _, rest = get(Range="bytes=10-", If_Range=headers[validator])
    return {"1" * 10 + "2" * 10: "old+new", "2" * 20: "new"}[start + rest if status == 206 else rest]


print("ETag:", resume("ETag") + ", date:", resume("Last-Modified"))
PY
mkdir files
echo start >files/file.txt
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
seen=$(for name in whitenoise tornado falcon bottle cherrypy sanic aiohttp blacksheep starlette flask; do
    venv/bin/python serve.py "$name" "$port" >/dev/null 2>&1 &
    server=$!
    until curl -s -o /dev/null --max-time 1 "http://127.0.0.1:$port/file.txt"; do
        kill -0 "$server"
    done
    echo "$name, $(venv/bin/python resume.py "$port")"
    kill "$server"
    wait "$server" || true
done)
expected='whitenoise, ETag: old+new, date: old+new
tornado, ETag: old+new, date: old+new
falcon, ETag: old+new, date: old+new
bottle, ETag: old+new, date: old+new
cherrypy, ETag: not sent, date: old+new
sanic, ETag: not sent, date: old+new
aiohttp, ETag: old+new, date: new
blacksheep, ETag: new, date: new
starlette, ETag: new, date: new
flask, ETag: new, date: new'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
