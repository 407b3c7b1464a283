"""The picture of speed-ups as SVG: a bar for each workload, readable on light pages and dark."""

from collections.abc import Mapping
from html import escape

WIDTH, ROW, LEFT, RIGHT, TOP, BOTTOM = 720, 30, 128, 64, 56, 34
# The colours of the pictures that `clusterd bench` draws, in daylight and in the dark.
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1a2029 }
.head { font-size: 15px; font-weight: 600 }
.soft { fill: #5b6673; font-size: 12px }
.line { stroke: #5b6673; stroke-dasharray: 3 3 }
.bar { fill: #0a5fc2 }
.value { paint-order: stroke; stroke: #ffffff; stroke-width: 5 }
.ground { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e8ecf2 } .soft { fill: #9aa6b4 } .line { stroke: #9aa6b4 }
  .bar { fill: #62aeff } .value { stroke: #12161d } .ground { fill: #12161d }
}"""


def speedups(found: Mapping[str, float], workers: int) -> str:
    """`found`: throughput of so many workers by that of one, by workload."""
    scale = (WIDTH - LEFT - RIGHT) / max([workers, *found.values()])
    height = TOP + ROW * len(found) + BOTTOM
    title = f"Throughput of {workers} workers, times that of one"
    told = "; ".join(f"{name} {ratio:.2f}" for name, ratio in found.items())
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}: {escape(told)}</title><style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
        f'<text class="head" x="{LEFT}" y="22">{escape(title)}</text>',
    ]
    for at, label in ((1, "one worker"), (workers, f"{workers} times")):
        x = LEFT + at * scale
        lines += [
            f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - 24}"/>',
            f'<text class="soft" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{label}</text>',
        ]
    for number, (name, ratio) in enumerate(found.items()):
        y = TOP + number * ROW
        bar = ratio * scale
        lines += [
            f'<text x="{LEFT - 10}" y="{y + 16}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="bar" x="{LEFT}" y="{y + 2}" width="{bar:.1f}" height="20" rx="3"/>',
            f'<text class="value" x="{LEFT + bar + 6:.1f}" y="{y + 16}">{ratio:.2f} ×</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
