"""Headless Chromium over its debugging pipe: a page as a person would get it, and what went wrong on the way.

Only the standard library is needed. The browser gets a fresh profile, never speaks to anything but the page, and
ends with the test.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]


class Browser:
    """One Chromium, one tab."""

    def __init__(self, program):
        self.profile = tempfile.mkdtemp(prefix="rentroll-page-")
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()

        def place_pipes():
            # Chromium reads commands from 3 and answers on 4. Duplicate out of the way first: either may be 3 or 4.
            commands, answers = os.dup(theirs_in), os.dup(theirs_out)
            high_commands, high_answers = os.dup2(commands, 63), os.dup2(answers, 64)
            os.dup2(high_commands, 3)
            os.dup2(high_answers, 4)

        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=place_pipes,
            close_fds=False,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.answers, self.commands = ours_in, ours_out
        self.buffer = b""
        self.last_id = 0
        self.events = []
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.answers)
        os.close(self.commands)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, **params):
        """Sends one command and returns its result."""
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda got: got.get("id") == self.last_id, f"an answer to {method}")
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, url, width=1280, height=900, dark=False, script=True):
        """Loads a page on a screen of that size; returns its HTTP status."""
        phone = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.events.clear()
        loader = self.call("Page.navigate", url=url)
        if "errorText" in loader:
            raise RuntimeError(f"{url}: {loader['errorText']}")
        self._wait(lambda got: got.get("method") == "Page.loadEventFired", f"{url} to load")
        for event in self.events:
            if event["method"] == "Network.responseReceived" and event["params"]["type"] == "Document":
                return event["params"]["response"]["status"]
        raise RuntimeError(f"{url}: no response was seen")

    def evaluate(self, expression):
        """The value of a script expression in the page."""
        self.call("Emulation.setScriptExecutionDisabled", value=False)
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def text(self):
        """What a reader sees."""
        return self.evaluate("document.body.innerText")

    def problems(self):
        """What the browser complained of since the page was opened: errors, refused or failed requests."""
        found = []
        for event in self.events:
            params = event["params"]
            if event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
            elif event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event["method"] == "Network.loadingFailed" and not params.get("canceled"):
                found.append(f"{params['errorText']} {params.get('blockedReason', '')}")
            elif event["method"] == "Network.responseReceived" and params["response"]["status"] >= 400:
                found.append(f"{params['response']['status']} for {params['response']['url']}")
        return found

    def requested(self):
        """Every address asked for since the page was opened."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def picture(self, path):
        """Keeps a PNG of the whole page; returns its bytes."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        # A page of a thousand rows makes no better picture than its first screens.
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        data = base64.b64decode(shot["data"])
        path.write_bytes(data)
        return data

    def pdf(self, path):
        """Keeps the page as it prints on A4; returns its bytes."""
        sheet = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
        data = base64.b64decode(sheet["data"])
        path.write_bytes(data)
        return data

    def _wait(self, wanted, what, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            while b"\0" in self.buffer:
                raw, self.buffer = self.buffer.split(b"\0", 1)
                message = json.loads(raw)
                if "method" in message:
                    self.events.append(message)
                if wanted(message):
                    return message
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.answers], [], [], left)[0]:
                raise TimeoutError(f"waited {seconds} s for {what}")
            chunk = os.read(self.answers, 1 << 16)
            if not chunk:
                raise RuntimeError(f"Chromium ended while this waited for {what}")
            self.buffer += chunk
