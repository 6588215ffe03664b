"""The web client as a person uses it: served to a real browser, looked at and clicked."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import aiohttp
from aiohttp import web

from browser import Browser, Page
from node import REPOSITORY, Node
from waiting import Late, eventually

SOURCES = REPOSITORY / "clients" / "web"
PORT = 8080
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; media-src blob:; font-src 'self'; "
    "connect-src 'self'{more}; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def given_client() -> Path | None:
    """A client that was built before and is to be tested: KITH_WEB_DIST. (`none` is for the node's build alone.)"""
    given = os.environ.get("KITH_WEB_DIST", "")
    return None if given in ("", "none") else Path(given)


def built() -> Path:
    """The folder of the built client: KITH_WEB_DIST, else it is built if it is missing or older than its sources."""
    if given := given_client():
        return given
    dist = SOURCES / "dist"
    sources = [*(SOURCES / "app").rglob("*"), *(SOURCES / "public").rglob("*"), *SOURCES.glob("*.*")]
    index = dist / "index.html"
    if not index.exists() or index.stat().st_mtime < max(file.stat().st_mtime for file in sources):
        npm = shutil.which("npm")
        assert npm, "npm is missing: apt-get install npm (`.ci/run` does it)"
        assert (SOURCES / "node_modules").is_dir(), "run tests/e2e/clients"
        subprocess.run([npm, "run", "build"], cwd=SOURCES, check=True, capture_output=True)
    return dist


@contextlib.asynccontextmanager
async def served(node: Node):
    """Where the client of a node is: what the node serves itself, if it does, else (or with KITH_WEB_DIST) a server of files beside it."""
    async with contextlib.AsyncExitStack() if given_client() else node.http() as http:
        with contextlib.suppress(aiohttp.ClientError, ValueError, AttributeError):
            async with http.get("/config.json") as answer:
                if answer.status == 200 and (await answer.json(content_type=None)).get("kith"):
                    yield f"http://localhost:{node.port}"
                    return
    site = web.Application()
    dist = built()
    policy = POLICY.format(more=f" http://localhost:{node.port}")

    async def give(request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"] or "index.html"
        if path == "config.json":
            answer = web.json_response({"base_url": f"http://localhost:{node.port}"})
        elif (dist / path).is_file():
            answer = web.FileResponse(dist / path)
        else:
            raise web.HTTPNotFound
        answer.headers["Content-Security-Policy"] = policy
        if path.endswith(".wasm"):
            answer.headers["Content-Type"] = "application/wasm"
        return answer

    site.router.add_get("/{path:.*}", give)
    runner = web.AppRunner(site)
    await runner.setup()
    listening = node.host.socket()
    listening.setsockopt(1, 2, 1)  # SO_REUSEADDR
    listening.bind(("127.0.0.1", PORT))
    await web.SockSite(runner, listening).start()
    try:
        yield f"http://localhost:{PORT}"
    finally:
        await runner.cleanup()


class WebClient(Page):
    """A tab with the web client in it."""

    browser: Browser
    url: str

    def hear(self, event: dict) -> None:
        super().hear(event)
        if event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "assert"):
            said = [each.get("value", each.get("description")) for each in event["params"]["args"]]
            self.complaints.append(f"console: {said}")

    async def expect(self, condition, deadline: float, what: str):
        """Like `eventually`, and tells what the page shows instead."""
        try:
            return await eventually(condition, deadline, what)
        except Late as late:
            with contextlib.suppress(Exception):
                shown = await self.run("(document.querySelector('dialog[open]') || document.body).innerText.slice(-1200)")
                late.add_note(f"the page at {await self.run('location.href')} shows: {shown!r}; complaints: {self.complaints}")
                if folder := os.environ.get("KITH_WEB_PICTURES"):
                    await self.screenshot(Path(folder) / "failed.png")
            raise

    async def open(self, url: str, fragment: str = "") -> None:
        """Opens the client and waits until it shows something."""
        self.url = url
        await self.call("Page.addScriptToEvaluateOnNewDocument", source=HELPERS)
        await self.go(f"{url}/{fragment}")
        await eventually(lambda: self.run("Boolean(document.querySelector('h1, .sidebar'))"), 20, "the client shows itself")

    async def reload(self) -> None:
        """As the browser's button does."""
        await self.run("window.before_ = true")
        await self.call("Page.reload")
        await eventually(lambda: self.run("document.readyState == 'complete' && !window.before_"), 10, "the page is loaded again")

    async def click(self, what: str, deadline: float = 10) -> None:
        """Clicks what is labelled so (a button, a link, a switch), or a CSS selector that begins with `css:`."""
        await self.expect(lambda: self.run(f"click_({json.dumps(what)})"), deadline, f"{what!r} can be clicked")

    async def shows(self, text: str, deadline: float = 10) -> None:
        async def is_there():
            return text in await self.text()
        await self.expect(is_there, deadline, f"the page says {text!r}")

    async def fill(self, label: str, text: str, deadline: float = 10) -> None:
        """Writes into the field that is labelled so, by the keyboard."""
        await self.expect(lambda: self.run(f"focus_({json.dumps(label)})"), deadline, f"there is a field {label!r}")
        await self.call("Input.insertText", text=text)

    async def choose_files(self, selector: str, *files: Path) -> None:
        """Gives files to a file input."""
        root = (await self.call("DOM.getDocument"))["root"]["nodeId"]
        async def found():
            return (await self.call("DOM.querySelector", nodeId=root, selector=selector))["nodeId"]
        node = await self.expect(found, 10, selector)
        await self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    async def there(self, script: str, deadline: float = 20, what: str | None = None):
        """Waits until an expression is true; returns its value."""
        # An object has no value here: that it is there is what counts.
        plain = "((v) => (v && typeof v === 'object' && !(v instanceof Promise) ? true : v))"
        return await self.expect(lambda: self.run(f"{plain}({script})"), deadline, what or script)

    async def write(self, text: str) -> None:
        """Writes a message and sends it."""
        await self.fill("Message", text)
        await self.press_enter()

    async def shows_message(self, text: str, deadline: float = 20) -> None:
        """Waits until a message with this text stands in the conversation."""
        await self.there(
            f"[...document.querySelectorAll('.message .body')].some((b) => b.textContent.includes({json.dumps(text)}))",
            deadline, f"the message {text!r} is shown",
        )

    async def settles(self) -> None:
        """Waits until what moves in has arrived; what moves for ever does not count."""
        await self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
        moving = "document.getAnimations().some((each) => each.playState === 'running' && each.effect.getComputedTiming().iterations !== Infinity)"
        await self.there(f"!{moving}", 10, "nothing moves any more")

    async def screenshot(self, file: Path) -> None:
        """A picture of what is seen."""
        await self.settles()
        data = (await self.call("Page.captureScreenshot", format="png"))["data"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(data))

    async def serious(self) -> list[str]:
        """What axe finds that is serious or worse."""
        await self.run((SOURCES / "node_modules" / "axe-core" / "axe.min.js").read_text() + ";0")
        return await self.run("""(async () => {
            const { violations } = await axe.run(document, { resultTypes: ["violations"] });
            return violations.filter(({ impact }) => impact === "serious" || impact === "critical")
                .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.html + " " + node.failureSummary).join(" | ")}`);
        })()""")


HELPERS = """(() => {
  const shown = (e) => e.getClientRects().length > 0 && getComputedStyle(e).visibility !== "hidden";
  const top = () => { const open = [...document.querySelectorAll("dialog[open]")]; return open[open.length - 1] || document; };
  const labelOf = (e) => (e.getAttribute("aria-label") || e.textContent || "").trim().replace(/\\s+/g, " ");
  window.find_ = (what) => {
    if (what.startsWith("css:")) return [...document.querySelectorAll(what.slice(4))].find(shown);
    const all = [...top().querySelectorAll("button, a, [role=menuitem], [role=switch], label, summary, input[type=radio]")].filter(shown);
    return all.find((e) => labelOf(e) === what) || all.find((e) => labelOf(e).includes(what));
  };
  window.click_ = (what) => { const e = find_(what); if (!e || e.disabled) return false; e.scrollIntoView({ block: "nearest" }); e.click(); return true; };
  window.focus_ = (label) => {
    const fields = [...top().querySelectorAll("input, textarea")].filter(shown);
    const named = (e) => labelOf(e) === label || [...(e.labels || [])].some((l) => l.textContent.trim().startsWith(label));
    const e = fields.find(named);
    if (!e) return false;
    e.focus(); e.select(); return true;
  };
})()"""


@contextlib.asynccontextmanager
async def web_client(
    node: Node, url: str | None = None, fragment: str = "", size: tuple[int, int] = (1280, 800), scheme: str = "light", flags: tuple[str, ...] = ()
):
    """A new browser (with these flags) with the client of a node in it."""
    async with contextlib.AsyncExitStack() as stack:
        where = url or await stack.enter_async_context(served(node))
        browser = await stack.enter_async_context(Browser(node.host, flags=flags))
        yield await stack.enter_async_context(tab(browser, where, fragment, size, scheme))


@contextlib.asynccontextmanager
async def tab(browser: Browser, url: str, fragment: str = "", size: tuple[int, int] = (1280, 800), scheme: str = "light"):
    """A tab of a browser with the client in it."""
    async with browser.page(WebClient) as page:
        page.browser = browser
        agent = await page.run("navigator.userAgent")
        await page.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage="en-GB")
        await page.look_as(*size, scheme)
        await page.open(url, fragment)
        yield page
