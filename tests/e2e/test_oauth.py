"""OAuth 2.0 with a real browser: a native app lets its user sign in there, and a device without a browser its user elsewhere."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import web

from browser import Browser
from client import PASSWORD
from test_setup_page import CONTRAST
from waiting import eventually

BASE = "http://localhost:8008"
CALLBACK = "http://127.0.0.1:9000/callback"
VERIFIER = "a-verifier-that-is-long-enough-for-rfc-7636_."
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


async def registered(http, metadata: dict) -> str:
    """The ID of a client, from where the server's metadata say."""
    async with http.post(path(metadata["registration_endpoint"]), json={
        "client_name": "Example <b>chat</b>", "client_uri": "https://chat.example.org/", "application_type": "native",
        "redirect_uris": ["http://127.0.0.1/callback"], "grant_types": ["authorization_code", "refresh_token", DEVICE_CODE],
        "response_types": ["code"], "token_endpoint_auth_method": "none", "tos_uri": "https://chat.example.org/terms",
    }) as answer:
        assert answer.status == 201, await answer.text()
        return (await answer.json())["client_id"]


def path(url: str) -> str:
    """The node is called by its address here, and by its name in the browser."""
    assert url.startswith(BASE + "/"), url
    return url[len(BASE):]


async def discovered(http) -> dict:
    async with http.get("/_matrix/client/v1/auth_metadata") as answer:
        assert answer.status == 200
        return await answer.json()


def address(metadata: dict, client: str, **more: str) -> str:
    """What a client opens in the browser."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    return metadata["authorization_endpoint"] + "?" + urlencode({
        "response_type": "code", "client_id": client, "redirect_uri": CALLBACK, "state": "st&te", "code_challenge": challenge,
        "scope": "urn:matrix:client:api:* urn:matrix:client:device:DESKTOP01", "code_challenge_method": "S256", **more,
    })


async def tokens(http, metadata: dict, **fields: str) -> tuple[int, dict]:
    async with http.post(path(metadata["token_endpoint"]), data=fields) as answer:
        return answer.status, await answer.json()


async def whoami(http, answer: dict) -> dict:
    head = {"Authorization": f"Bearer {answer['access_token']}"}
    async with http.get("/_matrix/client/v3/account/whoami", headers=head) as answer:
        assert answer.status == 200
        return await answer.json()


@contextlib.asynccontextmanager
async def native_app(host):
    """Listens on the loopback interface, as native apps do while the browser is open. Gives what it is called with."""
    called: list[dict] = []

    async def callback(request):
        called.append(dict(request.query))
        return web.Response(text="<title>App</title>Back in the app", content_type="text/html")

    site = web.Application()
    site.router.add_get("/callback", callback)
    runner = web.AppRunner(site)
    await runner.setup()
    listening = host.socket()
    listening.bind(("127.0.0.1", 9000))
    await web.SockSite(runner, listening).start()
    try:
        yield called
    finally:
        await runner.cleanup()


async def looks_right(page, name: str) -> None:
    """The page fits a small screen, and can be read in light and dark. KITH_SHOTS is a folder for pictures."""
    for scheme in ("light", "dark"):
        await page.look_as(320, 640, scheme)
        assert await page.run("document.documentElement.scrollWidth") <= 320, (scheme, name)
        assert await page.run(CONTRAST) >= 4.5, (scheme, name)
        if folder := os.environ.get("KITH_SHOTS"):
            shot = await page.call("Page.captureScreenshot", captureBeyondViewport=True)
            Path(folder, f"{name}-{scheme}.png").write_bytes(base64.b64decode(shot["data"]))


async def press(page, does: str) -> None:
    await page.run(f"document.querySelector('button[value={does}]').click()")


async def test_a_native_app_s_user_makes_an_account_in_the_browser_and_is_signed_in(lan):
    node = lan.node("alice")
    await node.start()
    name = node.identity()["server_name"]
    async with native_app(node.host) as called, node.http() as http:
        metadata = await discovered(http)
        assert "create" in metadata["prompt_values_supported"]
        client = await registered(http, metadata)
        async with Browser(node.host) as browser, browser.page() as page:
            await page.go(address(metadata, client, prompt="create"))
            await page.shows("Make your account")
            assert "Example <b>chat</b>" in await page.text()
            await looks_right(page, "register")
            await page.type("#name", "alice")
            await page.type("#password", PASSWORD)
            await page.press_enter()
            await page.shows("Let this app in?")
            shown = await page.text()
            assert f"@alice:{name}" in shown and "DESKTOP01" in shown and "an app on this device" in shown, shown
            await looks_right(page, "consent")
            await press(page, "allow")
            await page.shows("Back in the app")
            answer = called.pop()
            assert answer["state"] == "st&te" and not called
            assert not page.complaints, page.complaints

            # Signed in, one who comes again is asked at once, and may say no.
            await page.go(address(metadata, client))
            await page.shows("Let this app in?")
            await press(page, "deny")
            await page.shows("Back in the app")
            assert called.pop()["error"] == "access_denied"

        fields = {"grant_type": "authorization_code", "client_id": client, "redirect_uri": CALLBACK, "code": answer["code"]}
        status, refused = await tokens(http, metadata, code_verifier=VERIFIER[::-1], **fields)
        assert (status, refused["error"]) == (400, "invalid_grant")
        status, got = await tokens(http, metadata, code_verifier=VERIFIER, **fields)
        assert status == 200, got
        assert await whoami(http, got) == {"user_id": f"@alice:{name}", "device_id": "DESKTOP01"}
        refresh = {"grant_type": "refresh_token", "client_id": client, "refresh_token": got["refresh_token"]}
        status, got = await tokens(http, metadata, **refresh)
        assert status == 200 and (await whoami(http, got))["device_id"] == "DESKTOP01"
        assert PASSWORD not in node.output() and answer["code"] not in node.output() and got["access_token"] not in node.output()


async def test_a_device_without_a_browser_is_let_in_by_a_code_and_signed_out_on_the_account_s_page(lan):
    node = lan.node("alice")
    await node.start()
    await lan.user(node, "bob")
    async with node.http() as http:
        metadata = await discovered(http)
        client = await registered(http, metadata)
        scope = "urn:matrix:client:api:* urn:matrix:client:device:TV000001"
        async with http.post(path(metadata["device_authorization_endpoint"]), data={"client_id": client, "scope": scope}) as answer:
            begun = await answer.json()
        poll = {"grant_type": DEVICE_CODE, "client_id": client, "device_code": begun["device_code"]}
        assert (await tokens(http, metadata, **poll))[1]["error"] == "authorization_pending"
        async with Browser(node.host) as browser, browser.page() as page:
            await page.go(begun["verification_uri"])
            await page.shows("Sign in")
            await looks_right(page, "sign-in")
            await page.type("#name", "bob")
            await page.type("#password", "wrong")
            await page.press_enter()
            await page.shows("the user name or the password is wrong")
            await page.type("#password", PASSWORD)
            await page.press_enter()
            await page.shows("Type the code")
            await looks_right(page, "code")
            await page.type("#user_code", begun["user_code"].lower())
            await page.press_enter()
            await page.shows("Your device must show this code")
            assert begun["user_code"] in await page.text()
            await press(page, "allow")
            await page.shows("The app is let in")
            got: dict = {}

            async def granted():
                status, answer = await tokens(http, metadata, **poll)
                got.update(answer)
                return status == 200
            await eventually(granted, 40, "the device is signed in", every=6)
            assert (await whoami(http, got))["device_id"] == "TV000001"

            await page.go(f"{metadata['account_management_uri']}?action=org.matrix.device_delete&device_id=TV000001")
            await page.shows("Sign this device out")
            await looks_right(page, "device")
            await press(page, "delete")
            await page.shows("The device is signed out")
            for action in ("org.matrix.profile", "org.matrix.devices_list", "org.matrix.account_deactivate",
                           "org.matrix.cross_signing_reset", "org.kith.password"):
                await page.go(f"{metadata['account_management_uri']}?action={action}")
                await page.shows("Sign out of this browser")
                await looks_right(page, action)
            assert not page.complaints, page.complaints
        async with http.get("/_matrix/client/v3/account/whoami", headers={"Authorization": f"Bearer {got['access_token']}"}) as answer:
            assert answer.status == 401


async def test_a_hostile_page_can_neither_post_nor_frame_the_forms(lan):
    node = lan.node("alice")
    await node.start()
    await lan.user(node, "bob")
    async with native_app(node.host) as called, node.http() as http:
        metadata = await discovered(http)
        client = await registered(http, metadata)
        target = address(metadata, client)
        async with Browser(node.host) as browser, browser.page() as page:
            await page.go(target)
            await page.type("#name", "bob")
            await page.type("#password", PASSWORD)
            await page.press_enter()
            await page.shows("Let this app in?")
            # The app's own page is as foreign as any: another port of the same device.
            await page.go("http://127.0.0.1:9000/callback")
            called.clear()
            await page.run(POST % json.dumps(target))
            await page.shows("This form has expired")
            await page.go("http://127.0.0.1:9000/callback")
            await page.run(FRAME % json.dumps(target))
            await eventually(lambda: any("frame" in each for each in page.complaints), 10, "the browser refuses to frame the page")
    assert not [each for each in called if "code" in each]


POST = """(() => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = %s;
  form.innerHTML = '<input name="do" value="allow"><input name="csrf" value="x">';
  document.body.append(form);
  HTMLFormElement.prototype.submit.call(form);
})()"""

FRAME = """(() => {
  const frame = document.createElement("iframe");
  frame.src = %s;
  document.body.append(frame);
})()"""
