"""A headless Chromium, driven through its debugging pipe: enough of the protocol to load, ask, press and look."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_AXE = Path(__file__).resolve().parent.parent / ".cache" / "axe" / "axe_playwright_python" / "axe.min.js"
AXE = _AXE if _AXE.exists() else None
"""axe-core, which finds what keeps people out of a page; `scripts/setup.sh test` fetches it."""


class Page:
    """One tab. Errors and warnings of its console and its uncaught exceptions are in `complaints`."""

    def __init__(self, to: int, back: int) -> None:
        self.to, self.back = to, back
        self.buffer = b""
        self.number = 0
        self.session: str | None = None
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def receive(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            chunk = os.read(self.back, 1 << 16)
            if not chunk:
                raise RuntimeError("Chromium went away")
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        match answer.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(answer["params"]["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if answer["params"]["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(answer["params"]["args"]))
            case "Log.entryAdded" if answer["params"]["entry"]["level"] in ("error", "warning"):
                self.complaints.append(answer["params"]["entry"]["text"])
        return answer

    def open(self, path: Path, fragment: str = "") -> None:
        """Loads a file and waits until the report says that it is drawn."""
        self.call("Page.navigate", url=path.as_uri() + fragment)
        self.until("document.documentElement.dataset.ready === 'yes'")

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = 60) -> None:
        """Waits for a condition, asked at every frame that the page draws."""
        held = self.ask(
            f"new Promise((done) => {{ const end = Date.now() + {seconds * 1000}; (function look() {{"
            f" let held = false; try {{ held = Boolean({condition}); }} catch {{ held = false; }}"
            f" if (held || Date.now() > end) done(held); else setTimeout(look, 20); }})(); }})"
        )
        if not held:
            raise AssertionError(f"not within {seconds} s: {condition}; complaints: {self.complaints}")

    def enter(self, field: str, value: str, event: str) -> None:
        """Sets a field, by its id, and says so."""
        place = f"document.getElementById({json.dumps(field)})"
        self.ask(f"{place}.value = {json.dumps(value)}; {place}.dispatchEvent(new Event({json.dumps(event)}))")

    def violations(self) -> list[str]:
        """What axe-core finds against the page as it is: its rule, and the first element concerned."""
        assert AXE is not None
        self.ask(f"void (() => {{ {AXE.read_text()} }})()")
        found = self.ask("axe.run().then((done) => done.violations.map((each) => [each.id, each.nodes[0].html]))")
        return [f"{rule}: {element[:200]}" for rule, element in found]

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def shot(self, path: Path, width: int = 1400, height: int = 900, **features: str) -> None:
        """A screenshot; `features`: media features such as `prefers_color_scheme="dark"`."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        media = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=media)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])


@contextmanager
def chromium() -> Iterator[Page]:
    """A browser of one's own, gone at the end."""
    assert EXECUTABLE is not None
    read_theirs, write_ours = os.pipe()
    read_ours, write_theirs = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        switches = (
            "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions "
            "--disable-background-networking --disable-component-update --remote-debugging-pipe"
        )
        script = f'exec "$0" {switches} --user-data-dir="$1" 3<&{read_theirs} 4>&{write_theirs}'
        browser = subprocess.Popen(
            ["bash", "-c", script, EXECUTABLE, profile],
            pass_fds=(read_theirs, write_theirs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_theirs)
        os.close(write_theirs)
        try:
            yield Page(write_ours, read_ours)
        finally:
            browser.terminate()
            try:
                browser.wait(10)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()
            os.close(write_ours)
            os.close(read_ours)
