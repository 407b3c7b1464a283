"""The README's own stream, as it stands there: it says goodbye at a reload, and goes on later."""

import re
import signal
from pathlib import Path

import httpx

from tests.conformance.serving import REPOSITORY, serving


def test_the_stream_of_the_readme(tmp_path: Path) -> None:
    """It ends by itself, long before its grace is over, and its client can ask for the rest."""
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    (code,) = (block for block in blocks if "text/event-stream" in block)
    (tmp_path / "numbered.py").write_text(code)
    options = ("--app-dir", str(tmp_path), "--min-ready", "0", "--graceful-timeout", "1h")
    with (
        serving(tmp_path, "numbered:app", *options, "--stream-grace", "1h", workers=1) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        with client.stream("GET", "/numbers") as response:
            lines = response.iter_lines()
            assert next(lines) == "id: 1"
            server.process.send_signal(signal.SIGHUP)
            said = list(lines)
        assert "retry: 500" in said
        last = [line for line in said if line.startswith("id: ")][-1].removeprefix("id: ")
        # Over the same connection, which may still be the leaving worker's: it sends us away again.
        line = "retry: 500"
        while line == "retry: 500":
            with client.stream("GET", "/numbers", headers={"Last-Event-ID": last}) as response:
                line = next(response.iter_lines())
        assert line == f"id: {int(last) + 1}"
