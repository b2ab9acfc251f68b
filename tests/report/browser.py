"""A headless Chromium, driven over its DevTools protocol: two pipes and JSON, so that nothing has to be installed."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Browser", "find_browser"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
_PATIENCE = 120.0
_KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowUp": 38, "ArrowDown": 40, "End": 35, "Home": 36}


def find_browser() -> str | None:
    """The program named by GENLAB_BROWSER, or a Chromium of the search path, or None."""
    wanted = os.environ.get("GENLAB_BROWSER")
    return shutil.which(wanted) if wanted else next((path for n in _NAMES if (path := shutil.which(n))), None)


class Browser:
    """One tab of a browser of its own.

    Attributes:
        problems: errors of the console, exceptions of scripts and failed requests since the page was opened.
        requests: addresses that the page asked for.
    """

    def __init__(self, program: str) -> None:
        self._profile = tempfile.mkdtemp()
        there, self._write = os.pipe()
        self._read, back = os.pipe()

        def as_three_and_four() -> None:
            high = fcntl.fcntl(back, fcntl.F_DUPFD, 10)
            os.dup2(there, 3)
            os.dup2(high, 4)

        command = [program, *_FLAGS, f"--user-data-dir={self._profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            command,
            pass_fds=(3, 4),
            preexec_fn=as_three_and_four,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(back)
        self._waiting, self._count, self._session = b"", 0, ""
        self.problems: list[str] = []
        self.requests: list[str] = []
        tabs = self.ask("Target.getTargets")["targetInfos"]
        tab = next(one["targetId"] for one in tabs if one["type"] == "page")
        self._session = self.ask("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.ask("Performance.enable", timeDomain="threadTicks")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.close(self._write)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (told := self._next()).get("id") != self._count:
            self._note(told)
        if "error" in told:
            raise RuntimeError(f"{method}: {told['error']['message']}")
        return told["result"]

    def open(self, page: Path, width: int = 1400, height: int = 900, dark: bool = False) -> None:
        """Show a file in a window of that size, in light or dark; returns when it has loaded."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=features)
        self.problems, self.requests = [], []
        self.ask("Page.navigate", url=page.as_uri())
        while (told := self._next()).get("method") != "Page.loadEventFired":
            self._note(told)

    def value(self, script: str) -> Any:
        """What an expression of JavaScript gives; of a promise, what it comes to."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and let go a key: `Tab`, `ArrowDown`, `Enter`, a space."""
        text = {"Enter": "\r", " ": " "}.get(key)
        about: Mapping[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        self.ask("Input.dispatchKeyEvent", type="keyUp", **about)

    def point(self, x: float, y: float) -> None:
        """Move the pointer to a place of the window, in pixels."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def wheel(self, x: float, y: float, turn: float, ctrl: bool = False) -> None:
        """Turn the wheel over a place of the window; negative: away from oneself."""
        held = 2 if ctrl else 0
        self.ask("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=turn, modifiers=held)

    def seconds(self) -> float:
        """Processor seconds of the page's main thread since it was opened: what a busy machine does not change."""
        found = self.ask("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in found if one["name"] == "TaskDuration")

    def picture(self, file: Path) -> None:
        """Keep the whole page, beyond the window too, as a PNG."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            if not select.select([self._read], [], [], _PATIENCE)[0]:
                raise TimeoutError(f"the browser said nothing for {_PATIENCE:g} s")
            if not (more := os.read(self._read, 1 << 20)):
                raise RuntimeError("the browser has ended")
            self._waiting += more
        message, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(message)

    def _note(self, told: dict[str, Any]) -> None:
        method, about = told.get("method"), told.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(about["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(one.get("value", one)) for one in about["args"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.problems.append(about["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
