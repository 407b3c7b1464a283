#!/usr/bin/env bash
# Software: CPython 3.12 and 3.13 (3.12.1 and 3.13.0 run); nothing to install.
# Guess:    sys.monitoring (PEP 669) makes LINE events cheap: a callback that returns DISABLE is
#           called once per line, so a module that runs once costs in proportion to its lines.
# Seen:     each event costs in proportion to the size of the code object that it comes from. A
#           module of 20,000 assignments takes seconds instead of milliseconds, and four times the
#           lines take about sixteen times the CPU time, with DISABLE and without, for local events
#           and for global ones. set_local_events(tool, code, 0) from the callback ends it at once.
#           It hurts tools that follow the import of generated modules (tables, parsers, protobuf).
set -euo pipefail
python=$(command -v python3.13 || command -v python3.12) || { echo "needs Python 3.12 or 3.13"; exit 1; }
"$python" --version
"$python" - <<'PY'
import sys
import time

TOOL = 4
events = sys.monitoring.events
sys.monitoring.use_tool_id(TOOL, "lines")


def seconds(lines, callback):
    """Run a module of so many assignments; return its CPU time, the least of three."""
    least = float("inf")
    for _ in range(3):
        code = compile("\n".join(f"x{n} = {n}" for n in range(lines)), "module.py", "exec")
        sys.monitoring.register_callback(TOOL, events.LINE, callback)
        sys.monitoring.set_events(TOOL, events.LINE if callback else 0)
        began = time.process_time()
        exec(code, {})
        least = min(least, time.process_time() - began)
        sys.monitoring.set_events(TOOL, 0)
    return least


def disable(code, line):
    return sys.monitoring.DISABLE


def end(code, line):
    sys.monitoring.set_local_events(TOOL, code, 0)
    sys.monitoring.set_events(TOOL, 0)


plain, small, large, ended = (
    seconds(16000, None), seconds(4000, disable), seconds(16000, disable), seconds(16000, end)
)
print(f"16,000 lines: {plain * 1000:.1f} ms unobserved, {large * 1000:.0f} ms with DISABLE,")
print(f"{ended * 1000:.1f} ms ended by the first event; a quarter of the lines: {small * 1000:.0f} ms")
grows, costs = large / small > 8, large / plain > 100
print("four times the lines take more than eight times the time:", grows)
print("more than a hundred times the unobserved time:", costs)
sys.exit(not (grows and costs))
PY
