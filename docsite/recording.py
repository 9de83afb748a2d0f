"""The terminal recording of the README: `python -m docsite.recording` runs the real commands and draws what they print.

The pictures are drawn flowers, so the recording needs no download. It is an SVG that moves by itself, as animations in
a style sheet work in an <img>; programs that don't animate, and readers who ask for less motion, see its end.
"""

import argparse
import html
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from docsite.markdown import DOCS
from docsite.terminal import Frame, Line, record
from flowerml.core import files
from flowerml.tasks.image.sample import jpeg

COMMANDS = ("flowerml train my_pictures/", "flowerml predict rose.jpg")
DRAWN = ("daisy", "poppy", "rose", "sunflower", "tulip")  # five of ten, so that the screen holds both commands
PER_CLASS = 60
COLUMNS, ROWS = 100, 46
SPEED = 2  # times as fast as it was
FONT = 14  # pixels
CELL = 8.4  # the width of a character of that size in nearly every monospaced font
LINE = 18
MARGIN = 14
BACKGROUND, FOREGROUND = "#17202a", "#d5dde5"
COLORS = {
    "black": "#5c6773",
    "red": "#ff6b6b",
    "green": "#7fd88f",
    "brown": "#f0c674",
    "blue": "#6cb6ff",
    "magenta": "#d2a8ff",
    "cyan": "#66d9e8",
    "white": "#d5dde5",
}
# Lines that stay are hidden until they are printed; others (.o) are shown for a while.
STYLE = f"""
text {{ font: {FONT}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace }}
text {{ fill: {FOREGROUND}; white-space: pre }}
.b {{ font-weight: bold }}
.o {{ visibility: hidden }}
@keyframes hide {{ from, to {{ visibility: hidden }} }}
@keyframes show {{ from, to {{ visibility: visible }} }}
@media (prefers-reduced-motion: reduce) {{ text {{ animation: none !important }} }}
"""


@dataclass(frozen=True)
class Interval:
    """A line of the screen while it is shown; `end` is None for one that stays."""

    row: int
    line: Line
    start: float
    end: float | None


def main() -> None:
    """Draw the flowers, run the commands, and write the SVG."""
    parser = argparse.ArgumentParser(prog="python -m docsite.recording", description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS / "images" / "recording.svg", metavar="FILE")
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_flowers(folder / "my_pictures")
        (folder / "rose.jpg").write_bytes(jpeg("rose", PER_CLASS, seed=7))  # not one of those that are trained on
        frames = record(COMMANDS, folder=folder, environment=_environment(), columns=COLUMNS, rows=ROWS)
    with files.replacing(out) as temporary:
        temporary.write_text(svg(frames), encoding="utf-8")
    print(f"wrote {out}, {out.stat().st_size // 1000} kB, {frames[-1].time / SPEED:.0f} s")


def write_flowers(folder: Path) -> None:
    """Draw a folder of flowers, one folder a species."""
    for species in DRAWN:
        (folder / species).mkdir(parents=True)
        for index in range(PER_CLASS):
            (folder / species / f"{index}.jpg").write_bytes(jpeg(species, index, seed=7))


def svg(frames: Sequence[Frame]) -> str:
    """Return the frames as one picture; each line of text is in it once for each time that it is shown."""
    shown = list(intervals(frames))
    used = max(interval.row for interval in shown) + 1
    width, height = COLUMNS * CELL + 2 * MARGIN, used * LINE + 2 * MARGIN
    texts = "\n".join(_text(interval) for interval in shown)
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size}>
<title>A terminal: {html.escape("; ".join(COMMANDS))}</title>
<style>{STYLE}</style>
<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>
{texts}
</svg>
"""


def intervals(frames: Sequence[Frame]) -> Iterator[Interval]:
    """Yield each line of the screen with the time during which it does not change."""
    for row in range(len(frames[0].lines)):
        start, line = frames[0].time, frames[0].lines[row]
        for frame in frames[1:]:
            if frame.lines[row] != line:
                if line:
                    yield Interval(row, line, start, frame.time)
                start, line = frame.time, frame.lines[row]
        if line:
            yield Interval(row, line, start, None)


def _text(interval: Interval) -> str:
    """Return a line as <text>: hidden until its start where it stays, else shown from its start to its end."""
    y = MARGIN + (interval.row + 0.75) * LINE
    if interval.end is None:
        attributes = f'style="animation: hide {interval.start / SPEED:.2f}s"' if interval.start else ""
    else:
        start, length = interval.start / SPEED, (interval.end - interval.start) / SPEED
        attributes = f'class="o" style="animation: show {length:.2f}s {start:.2f}s"'
    runs = "".join(
        f'<tspan x="{MARGIN + run.column * CELL:g}" textLength="{len(run.text) * CELL:g}"'
        f"{_style(run.color, run.bold)}>{html.escape(run.text)}</tspan>"
        for run in interval.line
    )
    return f'<text y="{y:g}" {attributes}>{runs}</text>'


def _style(color: str, bold: bool) -> str:
    fill = COLORS.get(color.removeprefix("bright"), FOREGROUND if color == "default" else f"#{color}")
    return (f' fill="{fill}"' if color != "default" else "") + (' class="b"' if bold else "")


def _environment() -> dict[str, str]:
    """Return the variables of this process, with the commands of this Python first, and without those of a project."""
    own = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TERM": "xterm-256color",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | own


if __name__ == "__main__":
    main()
