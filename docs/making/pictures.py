"""The pictures of the documentation, from real runs: `make pictures` makes all of them anew.

It runs the grid beside this file, and takes pictures of what it shows while it runs, of its tables, report and figures,
and of an explained prediction. Needs chromium with its driver, for pages, and half an hour of two CPU cores, for the
grid; a grid that is done already is not run again, and then shows no live view.
"""

from __future__ import annotations

import argparse
import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
ASSETS = HERE.parent / "assets"
WIDTH, HEIGHT = 100, 40
"""Columns and lines of the terminal."""
COLOURS = 64
"""Of a picture. Text on paper needs no more, and files stay small."""
LARGEST = 150_000
"""Bytes of a file."""
FRAME = re.compile(r"\r?(?:\x1b\[2K|\x1b\[1A)+")
"""What a live view sends before it draws itself again."""
SHARE = re.compile(r"(\d+)/(\d+) cells")


def main() -> None:
    """Make the pictures that are asked for, by default all."""
    parser = argparse.ArgumentParser(description="Make the pictures of the documentation.")
    parser.add_argument("--work", type=Path, default=Path("results/pictures"), help="Folder for the runs.")
    parser.add_argument("names", nargs="*", help=f"Which: {', '.join(MAKERS)}; by default all.")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    for name in given.names or MAKERS:
        for path in MAKERS[name](given.work):
            print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


def live(work: Path) -> Iterator[Path]:
    """The live view of the grid, at about two thirds of its cells."""
    shutil.copy(HERE / "gallery.yaml", work)
    frames = FRAME.split(_in_terminal(work, "mmfuse", "run", "gallery.yaml"))
    shown = [(found, frame) for frame in frames if (found := SHARE.search(frame)) and "training" not in frame]
    reached = [
        (int(found[1]) / int(found[2]), frame) for found, frame in shown if re.search(r"\b\d+/\d+ +\d+\.\d", frame)
    ]
    if not reached:
        print("the grid was done before: no live view", file=sys.stderr)
        return
    _, frame = min(reached, key=lambda one: abs(one[0] - 2 / 3))
    yield _terminal_picture("live", "mmfuse run gallery.yaml", frame)


def tables(work: Path) -> Iterator[Path]:
    """The first table in a terminal."""
    yield _terminal_picture("tables", "mmfuse tables", _in_terminal(work, "mmfuse", "tables"))


def report(work: Path) -> Iterator[Path]:
    """The report page from its top, and its curves."""
    page = work / "report.html"
    _quietly(work, "mmfuse", "report", "--out", page.name)
    with _browser(width=900, height=1080) as browser:
        browser.get(page.absolute().as_uri())
        yield _picture("report", browser.get_screenshot_as_png())
    with _browser(width=900, height=4000) as browser:  # an element is cut off where the window ends
        browser.get(page.absolute().as_uri())
        for name, place in (("forest", "#gains"), ("overall", "#overall"), ("curves", "figure.curves")):
            yield _picture(name, browser.find_element("css selector", place).screenshot_as_png, margin=20)


def notebook(work: Path) -> Iterator[Path]:
    """What results show of themselves in a notebook, from the top."""
    from mmfuse import load_results

    page = work.absolute() / "notebook.html"
    with chdir(work):
        shown = load_results("results/gallery")._repr_html_()
    page.write_text(f'<meta charset="utf-8"><body style="margin: 12px; width: max-content">{shown}', encoding="utf-8")
    with _browser(width=1320, height=545) as browser:
        browser.get(page.as_uri())
        yield _picture("notebook", browser.get_screenshot_as_png(), width=1000)


def figures(work: Path) -> Iterator[Path]:
    """Two of the figures for a paper."""
    _quietly(work, "mmfuse", "figures")
    for name in ("gains", "overview"):
        yield _picture(name, (work / "figures" / f"tiny-split1-{name}.png").read_bytes(), width=960)


def explain(work: Path) -> Iterator[Path]:
    """The frames that decided a prediction, of the test clip that a model is surest of among those it recognises."""
    from mmfuse import load_results
    from mmfuse.data.tiny import dataset

    results = load_results(work / "results" / "gallery")
    clips = results.predictions(pair="dora+adapter", shots=8, draw=0).query("label == predicted")
    clip = clips.loc[clips["probability"].idxmax(), "clip"]
    file = dataset.generate() / clip.partition("_")[0] / f"{clip}.mp4"
    [checkpoint] = (work / "results" / "gallery" / "checkpoints").glob("*-dora+adapter-k8-draw0-*")
    _quietly(work, "mmfuse", "predict", str(checkpoint.absolute()), str(file), "--explain", "why.png")
    yield _picture("explain", (work / "why.png").read_bytes(), width=960)


MAKERS = {
    "live": live,
    "tables": tables,
    "report": report,
    "notebook": notebook,
    "figures": figures,
    "explain": explain,
}


def _command(words: tuple[str, ...]) -> list[str]:
    return [str(Path(sys.executable).with_name(words[0])), *words[1:]]


def _quietly(work: Path, *words: str) -> None:
    subprocess.run(_command(words), cwd=work, check=True, stdout=subprocess.DEVNULL)


def _in_terminal(work: Path, *words: str) -> str:
    """What a command writes to a terminal, with its codes."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(WIDTH), "LINES": str(HEIGHT)}
    environment.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    with subprocess.Popen(_command(words), cwd=work, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 65536):
                written += part
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(ours)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}:\n{written.decode()[-2000:]}")
    return written.decode().replace("\r\n", "\n")


def _terminal_picture(name: str, command: str, shown: str) -> Path:
    """A terminal with a command and what it shows."""
    console = Console(record=True, file=io.StringIO(), width=WIDTH, force_terminal=True)
    console.print(Text("$ ", style="bold green") + Text(command))
    console.print(Text.from_ansi(re.sub(r"\x1b\[\?\d+[hl]", "", shown).strip("\n")))
    svg = console.export_svg(title=command)
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    width, height = (int(float(number)) + 1 for number in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
    with tempfile.TemporaryDirectory() as folder, _browser(width=width, height=height) as browser:
        page = Path(folder) / "terminal.html"
        page.write_text(f'<meta charset="utf-8"><body style="margin: 0">{svg}', encoding="utf-8")
        browser.get(page.as_uri())
        return _picture(name, browser.find_element("tag name", "svg").screenshot_as_png, width=1000)


@contextmanager
def _browser(*, width: int, height: int) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=1"):
        options.add_argument(argument)
    options.add_argument(f"--window-size={width},{height + 200}")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        yield browser
    finally:
        browser.quit()


def _picture(name: str, png: bytes, *, width: int | None = None, margin: int = 0) -> Path:
    """Keep a picture, with few colours, a margin of its own colour, and no wider than asked for."""
    picture: Image.Image = Image.open(io.BytesIO(png)).convert("RGB")
    if margin:
        picture = ImageOps.expand(picture, margin, picture.getpixel((0, picture.height - 1)))
    if width is not None and picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    path = ASSETS / f"{name}.png"
    picture.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, more than {LARGEST:,}; show less of it")
    return path


if __name__ == "__main__":
    main()
