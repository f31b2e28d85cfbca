# SPDX-License-Identifier: Apache-2.0
"""Pages in Chromium, driven through its DevTools protocol over pipes."""

import json
import os
import selectors
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Seconds that one answer of the browser may take.
_PATIENCE = 60.0
_HIGH = 900


def executable():
  """The path of a Chromium, or None where none is installed."""
  return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
  """A Chromium without a window that shows one page at a time.

  Attributes:
    faults: errors and warnings of its console, exceptions of scripts, and what
      its policies refused, since the page was opened.
  """

  def __init__(self, folder):
    """Starts it; what it keeps goes into a folder."""
    self._asked, self._rest, self.faults = 0, b"", []
    theirs_in, self._out = os.pipe()
    self._in, theirs_out = os.pipe()

    def move():  # it reads requests from 3 and writes answers to 4
      ends = os.dup(theirs_in), os.dup(theirs_out)
      os.dup2(ends[0], 3)
      os.dup2(ends[1], 4)

    self._process = subprocess.Popen(
      [executable(), "--headless", "--no-sandbox", "--disable-gpu"]
      + ["--remote-debugging-pipe", f"--user-data-dir={folder}"],
      preexec_fn=move,
      close_fds=False,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    target = self._ask("Target.createTarget", url="about:blank")["targetId"]
    found = self._ask("Target.attachToTarget", targetId=target, flatten=True)
    self._session = found["sessionId"]
    for domain in ("Page", "Runtime", "Log"):
      self.ask(domain + ".enable")

  def close(self):
    self._ask("Browser.close")
    self._process.wait(_PATIENCE)
    os.close(self._in)
    os.close(self._out)

  def ask(self, method, **params):
    """The answer of the page to a method of the protocol."""
    return self._ask(method, self._session, **params)

  def _ask(self, method, session=None, **params):
    self._asked += 1
    request = {"id": self._asked, "method": method, "params": params}
    if session is not None:
      request["sessionId"] = session
    os.write(self._out, json.dumps(request).encode("utf-8") + b"\0")
    while True:
      said = self._next()
      if said.get("id") == self._asked:
        assert "error" not in said, (method, said["error"])
        return said["result"]

  def _next(self):
    """The next message, whose faults are noted."""
    while b"\0" not in self._rest:
      with selectors.DefaultSelector() as selector:
        selector.register(self._in, selectors.EVENT_READ)
        assert selector.select(_PATIENCE), "the browser does not answer"
      self._rest += os.read(self._in, 1 << 20)
    text, self._rest = self._rest.split(b"\0", 1)
    said = json.loads(text.decode("utf-8"))
    self._note(said.get("method"), said.get("params"))
    return said

  def _note(self, method, params):
    if method == "Runtime.exceptionThrown":
      self.faults.append(params["exceptionDetails"]["text"])
    elif method == "Log.entryAdded":
      if params["entry"]["level"] in ("error", "warning"):
        self.faults.append(params["entry"]["text"])
    elif method == "Runtime.consoleAPICalled":
      if params["type"] in ("error", "warning", "assert"):
        self.faults.append(str(params["args"]))

  def open(self, path, width=1400, is_dark=False, media=""):
    """Shows the page of a file in a window of some width."""
    self.ask(
      "Emulation.setDeviceMetricsOverride",
      width=width,
      height=_HIGH,
      deviceScaleFactor=1,
      mobile=False,
    )
    scheme = "dark" if is_dark else "light"
    feature = {"name": "prefers-color-scheme", "value": scheme}
    self.ask("Emulation.setEmulatedMedia", media=media, features=[feature])
    # A page of another name than the one before is not taken from memory.
    self.ask("Page.navigate", url="about:blank")
    self._loaded("about:blank")
    self.faults = []
    self.ask("Page.navigate", url=f"file://{path}")
    self._loaded(f"file://{path}")

  def _loaded(self, url):
    end = time.time() + _PATIENCE
    script = "document.readyState == 'complete' && location.href"
    while self.run(script) != url:
      assert time.time() < end, f"{url} does not load"
      time.sleep(0.02)

  def run(self, script):
    """The value of a script in the page."""
    found = self.ask(
      "Runtime.evaluate",
      expression=script,
      returnByValue=True,
      awaitPromise=True,
    )
    assert "exceptionDetails" not in found, found
    return found["result"].get("value")

  def click(self, selector):
    """Clicks on an element with the mouse."""
    x, y = self.run(
      f"""(() => {{
        const e = document.querySelector({json.dumps(selector)});
        e.scrollIntoView({{block: 'center'}});
        const b = e.getBoundingClientRect();
        return [b.x + b.width / 2, b.y + b.height / 2];
      }})()"""
    )
    for kind in ("mousePressed", "mouseReleased"):
      self.ask(
        "Input.dispatchMouseEvent",
        type=kind,
        x=x,
        y=y,
        button="left",
        clickCount=1,
      )

  def press(self, selector, key="Enter"):
    """Presses a key on an element that has the focus then."""
    self.run(f"document.querySelector({json.dumps(selector)}).focus()")
    assert self.run(
      f"document.activeElement.matches({json.dumps(selector)})"
    ), selector
    for kind in ("keyDown", "keyUp"):
      self.ask(
        "Input.dispatchKeyEvent",
        type=kind,
        key=key,
        code=key,
        windowsVirtualKeyCode=13,
        text="\r" if kind == "keyDown" else "",
      )


OPEN_ALL = "document.querySelectorAll('details').forEach(d => d.open = true)"

# Elements that stick out of the window to the right.
OVERFLOWING = """
(() => {
  const page = document.documentElement;
  return page.scrollWidth <= page.clientWidth ? [] :
    [...document.body.querySelectorAll('*')]
      .filter(e => e.getBoundingClientRect().right > page.clientWidth + 1)
      .map(e => e.tagName + '.' + e.getAttribute('class')).slice(0, 5)
      .concat([page.scrollWidth + ' > ' + page.clientWidth]);
})()
"""

# Texts with less contrast than WCAG 2.1 asks for at level AA, 4.5 to 1.
FAINT = """
(() => {
  const parse = text => {
    const n = (text.match(/[\\d.]+/g) || []).map(Number);
    return n.length < 3 ? null : [n[0], n[1], n[2], n.length > 3 ? n[3] : 1];
  };
  const light = c => {
    const [r, g, b] = c.slice(0, 3).map(v => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4);
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const box = e.tagName == 'g' && e.querySelector(':scope > rect');
      const style = getComputedStyle(box || e);
      const c = parse(box ? style.fill : style.backgroundColor);
      if (c && c[3] == 1) return c;
    }
    return [255, 255, 255, 1];
  };
  const found = {};
  let seen = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility()) continue;
    if (e.tagName == 'title') continue;
    seen += 1;
    const style = getComputedStyle(e);
    const colour = parse(e.ownerSVGElement ? style.fill : style.color);
    const a = light(colour), b = light(behind(e));
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5)
      found[e.tagName + '.' + e.getAttribute('class')] =
        [contrast.toFixed(2), walk.currentNode.data.trim().slice(0, 40)];
  }
  return seen ? found : 'no text is visible';
})()
"""

# What takes the focus and has no name for who does not see it.
NAMELESS = """
[...document.querySelectorAll('a[href], summary, [tabindex]')].filter(
  e => !(e.getAttribute('aria-label') || e.textContent.trim())
).map(e => e.outerHTML.slice(0, 80))
"""
