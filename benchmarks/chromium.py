"""Chromium without a window, driven through the DevTools protocol over a pipe.

The protocol is Chrome DevTools Protocol 1.3; messages are JSON, each ended by a zero byte
(``--remote-debugging-pipe``), so that neither a port nor a websocket is needed. Tests and benchmarks use it.
"""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from time import monotonic, sleep
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--disable-background-networking --disable-sync --no-first-run --hide-scrollbars --remote-debugging-pipe"
)
# All is drawn in full, or it plays: then it is drawn as finely as keeps up.
DRAWN = """new Promise(drawn => {
  const plays = () => document.getElementById('play').ariaLabel === 'pause';
  const look = () => document.documentElement.dataset.detail === '1' || plays() ? drawn() : requestAnimationFrame(look);
  requestAnimationFrame(() => requestAnimationFrame(look));
})"""
STATE = "document.documentElement ? document.documentElement.dataset.state || '' : ''"


class Tab:
    """One page of a browser that runs; ``call`` and ``evaluate`` wait for the answer."""

    def __init__(self, to_browser: int, from_browser: int, patience_s: float) -> None:
        self._to, self._from, self._patience_s = to_browser, from_browser, patience_s
        self._buffer, self._number, self._session = b"", 0, ""
        self.complaints: deque[str] = deque(maxlen=20)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Performance", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """The result of one method of the protocol; an error it answers is raised."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(answer["params"]))
            if answer.get("method") == "Network.requestWillBeSent":
                url = answer["params"]["request"]["url"]
                if not url.startswith(("file:", "data:", "about:", "blob:")):
                    self.complaints.append(f"the network was asked for {url}")
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited when it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {json.dumps(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def window(self, width: int, height: int, phone: bool = False) -> None:
        """Set the size of the window in CSS pixels; a phone's has touch and two device pixels to each."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a page afresh, and wait until it says that it is ready."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=f"{page.as_uri()}#{fragment}")
        deadline = monotonic() + self._patience_s
        while (state := self.evaluate(STATE)) != "ready":
            if state == "failed" or monotonic() > deadline:
                raise RuntimeError(f"{page} has not opened: {state or 'still loading'}, {list(self.complaints)}")
            sleep(0.02)

    def press(self, key: str, shift: bool = False) -> None:
        """Press and let go of a key, named as in ``KeyboardEvent.key``."""
        more = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 * shift, **more)

    def touch(self, *paths: list[tuple[float, float]]) -> None:
        """Move one finger along each path of points, all at once, and lift them."""
        fingers = [[{"x": x, "y": y, "id": number} for x, y in path] for number, path in enumerate(paths)]
        for number, points in enumerate(zip(*fingers, strict=True)):
            kind = "touchMove" if number else "touchStart"
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=list(points))
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self) -> bytes:
        """The window as PNG, when all that was asked for is drawn."""
        self.evaluate(DRAWN)
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def script_s(self) -> float:
        """Processor time that the page has spent in JavaScript, seconds."""
        metrics = self.call("Performance.getMetrics")["metrics"]
        return next(float(m["value"]) for m in metrics if m["name"] == "ScriptDuration")

    def _next(self) -> dict[str, Any]:
        deadline = monotonic() + self._patience_s
        while b"\0" not in self._buffer:
            if not select([self._from], [], [], max(deadline - monotonic(), 0))[0]:
                raise TimeoutError(f"Chromium has not answered for {self._patience_s:g} s")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise RuntimeError("Chromium has ended")
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def chromium(patience_s: float = 60.0) -> Iterator[Tab]:
    """A tab of a fresh browser, which ends with the block."""
    if CHROMIUM is None:
        raise RuntimeError("no Chromium is installed")
    (their_in, our_out), (our_in, their_out) = _pipe(), _pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The browser reads the descriptor 3 and writes to 4.
        shell = ["bash", "-c", f'exec "$@" 3<&{their_in} 4>&{their_out}', "bash"]
        command = [*shell, CHROMIUM, *FLAGS.split(), f"--user-data-dir={profile}"]
        process = subprocess.Popen(command, pass_fds=(their_in, their_out), stderr=subprocess.DEVNULL)
        try:
            os.close(their_in)
            os.close(their_out)
            yield Tab(our_out, our_in, patience_s)
        finally:
            os.close(our_out)
            os.close(our_in)
            process.terminate()
            process.wait(timeout=20)


def _pipe() -> tuple[int, int]:
    """A pipe whose descriptors leave 3 and 4 to the browser."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
