"""The plain page, in a real browser: how an owner meets it, and how a hostile web page does; and what lies at `/`."""

from __future__ import annotations

import json
import re

from aiohttp import web

from browser import Browser
from client import PASSWORD
from node import REPOSITORY
from test_first_start import setup_token, unconfigured

# The plain page is there whether or not the web client is, which has tests of its own.
PAGE = "http://localhost:8008/plain/"
LINK = PAGE + "#/setup/"


async def started(lan):
    node = unconfigured(lan, "alice")
    await node.start()
    return node, await setup_token(node)


async def login(node, user: str) -> int:
    who = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user}, "password": PASSWORD}
    async with node.http() as http, http.post("/_matrix/client/v3/login", json=who) as answer:
        return answer.status


async def test_the_owner_makes_an_account_on_the_page_and_the_link_is_used_up(lan):
    node, token = await started(lan)
    name = node.identity()["server_name"]
    async with Browser(node.host) as browser, browser.page() as page:
        await page.go(PAGE)
        await page.shows("Your node is running")
        assert name in await page.text() and token not in await page.run("document.documentElement.outerHTML")

        await page.go(LINK + token)
        await page.shows("Make your account")
        await page.type("#name", "Ålice")
        await page.type("#password", "short")
        await page.press_enter()
        await page.shows("Only small letters")
        await page.shows("Use at least 8 characters")
        assert await page.run("document.activeElement.id") == "name"
        await page.type("#name", "alice")
        await page.type("#password", PASSWORD)
        await page.press_enter()
        await page.shows("Your account is ready")
        shown = await page.text()
        assert f"@alice:{name}" in shown and "http://localhost:8008" in shown and PASSWORD not in shown
        assert token not in await page.run("location.href"), "the link would stay in the history"
        assert await login(node, "alice") == 200

        await page.go(LINK + token)
        await page.shows("This link does not work any more")
        assert not page.complaints


async def test_the_page_fits_a_small_screen_and_has_contrast_in_light_and_dark(lan):
    node, token = await started(lan)
    async with Browser(node.host) as browser, browser.page() as page:
        for scheme in ("light", "dark"):
            await page.look_as(320, 640, scheme)
            for address, heading in [
                (PAGE, "Your node is running"),
                (LINK + token, "Make your account"),
                (LINK + "wrong", "This link does not work"),
            ]:
                await page.go(address)
                await page.shows(heading)
                assert await page.run("document.documentElement.scrollWidth") <= 320, (scheme, heading)
                assert await page.run(CONTRAST) >= 4.5, (scheme, heading)
        assert not page.complaints


async def test_the_page_behind_the_printed_link_is_the_client_or_without_one_the_plain_page(lan):
    node, _ = await started(lan)
    async with node.http() as http:
        async with http.get("/") as answer:
            page, headers = await answer.text(), answer.headers
        assert "script-src 'self'" in headers["Content-Security-Policy"] and "unsafe-inline" not in headers["Content-Security-Policy"]
        async with http.get("/config.json") as answer:
            told = await answer.json()
            assert "Access-Control-Allow-Origin" not in answer.headers
        expected = {"base_url": "http://localhost:8008", "server_name": node.identity()["server_name"], "kith": True}
        assert told == expected
        if "/plain/setup.js" in page:
            assert not (REPOSITORY / "clients/web/package.json").exists(), "the web client is not embedded"
            return
        assert headers["Cache-Control"] == "no-cache"
        async with http.get("/", headers={"If-None-Match": headers["ETag"]}) as answer:
            assert answer.status == 304
        scripts = re.findall(r'<script[^>]* src="([^"]+)"', page)
        assert scripts and "<script>" not in page
        for script in scripts:
            async with http.get("/" + script.removeprefix("./").removeprefix("/")) as answer:
                assert answer.status == 200 and "immutable" in answer.headers["Cache-Control"], script
                assert answer.headers["Content-Type"].startswith("text/javascript")


async def test_a_hostile_web_page_learns_nothing_makes_no_account_and_cannot_keep_the_owner_out(lan):
    node, token = await started(lan)
    name = node.identity()["server_name"]

    async def cats(_):
        return web.Response(text="<title>Cats</title>", content_type="text/html")

    site = web.Application()
    site.router.add_get("/", cats)
    runner = web.AppRunner(site)
    await runner.setup()
    listening = node.host.socket()
    listening.bind(("127.0.0.1", 9000))
    await web.SockSite(runner, listening).start()
    try:
        async with Browser(node.host, {"rebound.example": "127.0.0.1"}) as browser:
            async with browser.page() as page:
                await page.go("http://127.0.0.1:9000/")
                learned = await page.run(ATTACK)
                assert learned["registered"] == [401, 401, 401], learned
                assert learned["limited"], "tokens can be guessed without end"
                assert learned["unreadable"] == ["/", "/config.json", "/plain/", "/plain/setup.js", "/_matrix/key/v2/server"], learned
                assert name not in json.dumps(learned) and token not in json.dumps(learned)

                await page.go("http://rebound.example:8008/")
                await page.shows("not known by the name in this address")
                assert name not in await page.text()
            async with browser.page() as page:
                await page.go(LINK + token)
                await page.shows("Make your account")
                await page.type("#name", "alice")
                await page.type("#password", PASSWORD)
                await page.press_enter()
                await page.shows("Your account is ready")
    finally:
        await runner.cleanup()
    listed = json.loads(node.run("user", "list", "--json").stdout)
    assert [user["user_id"] for user in listed] == [f"@alice:{name}"]


# The least contrast (WCAG 2, 1.4.3) of any visible text to what is behind it.
CONTRAST = """(() => {
  const colour = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const [r, g, b, a = 1] = colour(getComputedStyle(each).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const ratios = [...document.querySelectorAll("h1, h2, p, li, dt, dd, code, label, button, input")]
    .filter((node) => node.offsetParent && node.textContent.trim())
    .map((node) => [light(colour(getComputedStyle(node).color)), light(behind(node))])
    .map(([text, ground]) => (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05));
  return Math.min(...ratios);
})()"""

# What a page of another origin can try.
ATTACK = """(async () => {
  const base = "http://localhost:8008";
  const register = async (auth) => {
    const account = { username: "mallory", password: "correct horse battery staple", auth };
    const answer = await fetch(`${base}/_matrix/client/v3/register`, { method: "POST", body: JSON.stringify(account) });
    return [answer.status, await answer.text()];
  };
  const tries = [await register(undefined), await register({ type: "m.login.dummy" })];
  const { session } = JSON.parse(tries[0][1]);
  tries.push(await register({ type: "m.login.registration_token", token: "guess", session }));
  let limited = false;
  for (let i = 0; i < 40 && !limited; i += 1) {
    limited = (await register({ type: "m.login.registration_token", token: `guess${i}` }))[0] === 429;
  }
  const unreadable = [];
  for (const path of ["/", "/config.json", "/plain/", "/plain/setup.js", "/_matrix/key/v2/server"]) {
    await fetch(base + path).then((answer) => answer.text()).catch(() => unreadable.push(path));
  }
  return { registered: tries.map((each) => each[0]), said: tries.map((each) => each[1]), limited, unreadable };
})()"""
