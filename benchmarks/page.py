"""The page in headless Chromium: time until it can be used, processor time of a frame, and frames shown.

Run: ``python benchmarks/page.py out/demo [--lidar] [--repeats 5]``, with what ``dyncity view`` takes. Of the drive's
first 16 frames, the time from navigation until the first is on the screen; of its first 64, the time that the page's
scripts take for one (mesh of each pane, boxes, ribbons, points, and handing it all to WebGL). Script time does not
depend on the graphics card. Time until ready and frames shown do: headless Chromium draws in software (SwiftShader).
Frames shown are counted over four seconds of playing at three times 10 Hz, when the page has had three to find out how
finely it can draw them; beside them stands how many pixels it then draws to a CSS pixel each way.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median, quantiles

from chromium import Tab, chromium
from rich.console import Console
from rich.table import Table

from dyncity_sim.cli.main import main as dyncity

CHUNK, DRIVE = 16, 64
BARE = "points=0&boxes=0&trails=0"
PLAYED = """new Promise(tell => {
  const since = performance.now() + 3000, until = since + 4000;
  let shown = -1, count = 0;
  const look = now => {
    const frame = document.documentElement.dataset.frame;
    if (now > since && frame !== shown) count++;
    shown = frame;
    if (now < until) requestAnimationFrame(look);
    else tell([count / 4, document.getElementById('view').width / innerWidth]);
  };
  requestAnimationFrame(look);
})"""
# Scripts wait where the card still draws the frame before; that time is not theirs.
FINISH = """(card => card.readPixels(0, 0, 1, 1, card.RGBA, card.UNSIGNED_BYTE, new Uint8Array(4)))(
  document.getElementById('view').getContext('webgl2'))"""
# Set before the page's own scripts run: the clock of the page, which starts with its navigation.
WATCH = """new MutationObserver((_, watch) => {
  if (document.documentElement.dataset.state !== 'ready') return;
  watch.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => { window.readyAfter = performance.now(); }));
}).observe(document, { subtree: true, childList: true, attributes: true });"""


def ready_s(tab: Tab, page: Path, repeats: int) -> float:
    """Median time from navigation to the first frame, seconds."""
    times = []
    for _ in range(repeats):
        tab.open(page, "play=0")
        tab.screenshot()
        times.append(tab.evaluate("window.readyAfter") / 1000)
    return median(times)


def frame_ms(tab: Tab, page: Path, hash_part: str) -> tuple[float, float, float]:
    """Time in scripts of a frame, milliseconds: median, 95th percentile, largest; without the first eight, which
    come before the browser has compiled them.
    """
    tab.open(page, f"play=0&{hash_part}")
    spent = []
    for _ in range(int(tab.evaluate("document.getElementById('scrub').max"))):
        before = tab.script_s()
        tab.press("ArrowRight")
        tab.evaluate("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        spent.append(1000 * (tab.script_s() - before))
        tab.evaluate(FINISH)
    return median(spent[8:]), quantiles(spent[8:], n=20)[-1], max(spent[8:])


def shown_per_s(tab: Tab, page: Path, hash_part: str) -> tuple[float, float]:
    """Different frames on the screen per second while the page plays at 30 a second, where late ones are skipped, and
    pixels to a CSS pixel at the end.
    """
    tab.open(page, f"play=1&speed=3&{hash_part}")
    shown, ratio = tab.evaluate(PLAYED)
    return shown, ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--lidar", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    table = Table("", "figure", "aim")
    with tempfile.TemporaryDirectory() as folder, chromium() as tab:
        pages = [Path(folder) / f"{frames}.html" for frames in (CHUNK, DRIVE)]
        for page, frames in zip(pages, (CHUNK, DRIVE), strict=True):
            words = [
                "view",
                args.path,
                "--frames",
                str(frames),
                "--out",
                str(page),
                *(["--lidar"] if args.lidar else []),
            ]
            if dyncity(words):
                raise SystemExit(1)
        tab.window(1280, 800)
        tab.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        table.add_row(f"ready, {CHUNK} frames", f"{ready_s(tab, pages[0], args.repeats):.2f} s", "under 2 s")
        for name, hash_part in (("first pane alone", "recorded=0"), ("all panes", "recorded=1")):
            middle, most, largest = frame_ms(tab, pages[1], hash_part)
            row = (
                f"a frame of {DRIVE}, {name}",
                f"{middle:.1f} ms, 95 % under {most:.1f} ms, all under {largest:.1f} ms",
                "under 33 ms",
            )
            table.add_row(*row)
            for what, switches in (("voxels", BARE), ("all that there is", "")):
                shown, ratio = shown_per_s(tab, pages[1], f"{hash_part}&{switches}")
                playing = f"{shown:.1f} a second, {ratio:g} pixels"
                table.add_row(f"shown at 30 a second, {name}, {what}", playing, "30")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
