"""The web client in real browsers, on two nodes: the first minute, how it looks, without its node, beside other servers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from synapse import Synapse
from test_first_start import setup_token, unconfigured
from web_client import WebClient, served, tab, web_client
from web_people import at_peace, person, photo, sign_up, write_to
from web_scene import fake_extension, settle, talk


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Where pictures of the client go: KITH_WEB_PICTURES, else a temporary folder."""
    return Path(os.environ.get("KITH_WEB_PICTURES", tmp_path / "pictures"))


# The files that a page took, also through its service worker.
FILES = """JSON.stringify([...new Set([...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].map((each) => new URL(each.name).pathname))])"""


async def bytes_of(node, page: WebClient) -> int:
    """How much of the client came over the line until now, as the node serves it to a browser: compressed."""
    size = 0
    async with node.http() as http:
        for path in json.loads(await page.run(FILES)):
            if not path.startswith("/_matrix/"):
                async with http.get(path, headers={"Accept-Encoding": "gzip, deflate, br, zstd"}) as answer:
                    assert answer.status == 200, path
                    size += int(answer.headers["Content-Length"])
    return size


async def test_two_people_get_from_the_first_start_to_an_encrypted_photo_in_a_minute(lan, tmp_path, measured):
    here, there = unconfigured(lan, "alice"), unconfigured(lan, "bob")
    await asyncio.gather(here.start(), there.start())
    begin = time.monotonic()
    links = [f"#/setup/{await setup_token(node)}" for node in (here, there)]
    async with web_client(here, fragment=links[0]) as alice, web_client(there, fragment=links[1]) as bob:
        for page, name in ((alice, "Alice"), (bob, "Bob")):
            await page.shows("What do people call you?")
            await page.fill("Your name", name)
            await page.click("Begin")
            await page.shows("Good to have you here", 30)
        measured("both accounts", time.monotonic() - begin, "s")
        # A server of files beside the node does not compress them.
        if alice.url == f"http://localhost:{here.port}":
            size = await bytes_of(here, alice)
            measured("first load", size / 1e6, "MB")
            assert 1_000_000 < size < 3_000_000

        address = f"@bob:{there.identity()['server_name']}"
        await alice.click("Add a person")
        await alice.fill("Address or link", address)
        await alice.click("Find")
        await alice.click("Write")
        await bob.click("css:.conversation", 30)
        await bob.click("Accept")
        await alice.write("Hello **Bob**")
        await bob.shows_message("Hello Bob", 30)
        assert await bob.run("document.querySelector('.message .body strong').textContent") == "Bob"

        await bob.choose_files(".composer input[type=file]", photo(tmp_path))
        await alice.there("document.querySelector('.photo img')?.naturalWidth > 0", 30, "the photo is seen")
        took = time.monotonic() - begin
        measured("first start to an exchanged encrypted photo", took, "s")
        assert took < 60
        assert not alice.complaints and not bob.complaints, (alice.complaints, bob.complaints)


async def test_pictures_of_the_main_states_and_nothing_serious_for_axe(lan, tmp_path, pictures):
    node = lan.node("mira")
    await node.start()
    name = node.identity()["server_name"]
    owner = f"@mira:{name}"
    near = [{"user_id": f"@{user}:{name}", "displayname": shown} for user, shown in (("noor", "Noor"), ("emil", "Emil Sand"), ("tove", "Tove Lind"))]
    problems: dict[str, list[str]] = {}

    async with web_client(node) as page:
        async def shoot(what: str, sizes=((1280, 800), (390, 844)), schemes=("light", "dark")) -> None:
            for width, height in sizes:
                for scheme in schemes:
                    await page.look_as(width, height, scheme)
                    await page.screenshot(pictures / f"{what}-{width}-{scheme}.png")
                    assert await page.run("document.documentElement.scrollWidth") <= width, (what, width)
                    if found := await page.serious():
                        problems[f"{what} {width} {scheme}"] = found
            await page.look_as(1280, 800)

        small = ((1280, 800), (390, 844), (320, 640))
        await page.shows("Welcome back")
        await shoot("sign-in", small)
        await page.click("Make a new account")
        await page.fill("Your name", "Mira")
        await shoot("setup", small)
        await page.click("Begin")
        await page.shows("Good to have you here", 30)
        await shoot("empty", small)

        friends, rooms = await settle(lan, node, owner, tmp_path)
        for room_id in rooms.values():
            await page.run(f"location.hash = '#/room/' + encodeURIComponent({room_id!r})")
            await page.shows("Accept")
            await shoot("invitation", ((390, 844),), ("light",)) if room_id == rooms["jonas"] else None
            await page.click("Accept")
            await page.there("document.querySelector('.composer textarea')")
        await talk(friends, rooms)
        await fake_extension(page, name, near, {"waiting": [], "delivered": ["all"], "total": 1})
        await page.reload()
        await page.there("document.querySelectorAll('.conversation').length >= 4")
        await page.click("Harbour house")
        await page.shows_message("Yesterday, from the pier")
        await page.there("document.querySelector('.photo img')?.naturalWidth > 0")
        await page.write("Perfect. Save me a seat on the left side ⛵")
        await page.shows_message("Save me a seat")
        await friends["jonas"].request("PUT", f"/_matrix/client/v3/rooms/{rooms['harbour']}/typing/{friends['jonas'].user_id}", {"typing": True, "timeout": 30000})
        await page.there("document.querySelector('.mark.delivered')")
        await shoot("conversation", small)
        await page.run("location.hash = '#/'")
        await shoot("list", small)
        await page.run(f"location.hash = '#/room/' + encodeURIComponent({rooms['harbour']!r})")
        await page.shows_message("Save me a seat")
        await page.run("document.querySelector('.message:not(.mine) .tools button[aria-expanded]').click()")
        await shoot("menu", ((1280, 800), (390, 844)), ("light",))
        await page.run(f"location.hash = '#/room/' + encodeURIComponent({rooms['harbour']!r}) + '/info'")
        await page.shows("Copy the link to this conversation")
        await shoot("details", small)
        for address, heading in (("people", "Their code"), ("group", "Who is in it"), ("public", "No public groups there"), ("settings", "Blocked people"), ("settings/profile", "Your address"), ("settings/devices", "This device"),
                                 ("settings/appearance", "Colours"), ("settings/notifications", "What notifications show"), ("settings/storage", "Used by"), ("settings/node", "Waiting to be sent")):
            await page.run(f"location.hash = '#/{address}'")
            await page.shows(heading)
            await shoot(address.replace("/", "-"))
        await page.run("location.hash = '#/settings/profile'")
        await page.click("Recovery key")
        await page.shows("I have saved it")
        await shoot("recovery")
        assert not page.complaints, page.complaints
    assert not problems, "\n".join(f"{where}: {each}" for where, found in problems.items() for each in found)


# Whether an event is in what the browser has written down of the syncs.
KEPT = """async (event_id) => {
    const open = (request) => new Promise((done, fail) => { request.onsuccess = () => done(request.result); request.onerror = () => fail(request.error); });
    const database = await open(indexedDB.open('matrix-js-sdk:kith'));
    const kept = await open(database.transaction('sync').objectStore('sync').getAll());
    database.close();
    return JSON.stringify(kept).includes(event_id);
}"""


async def test_without_its_node_the_client_opens_shows_what_it_has_and_sends_what_was_written_later(lan, tmp_path):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with served(here) as url, person(here, "Alice", url) as alice, person(there, "Bob") as bob:
        await write_to(alice, bob, "before the blackout")
        await bob.choose_files(".composer input[type=file]", photo(tmp_path))
        await alice.there("document.querySelector('.photo img')?.naturalWidth > 0", 30)
        await alice.there("navigator.serviceWorker.controller || navigator.serviceWorker.ready.then(() => true)", 20, "the service worker is there")
        await alice.there(f"({KEPT})(document.querySelector('.message:has(.photo)').dataset.eventId)", 40, "what was synced is kept in the browser")

        here.kill()
        await alice.call("Network.enable")
        # Neither the node nor whatever serves the page: the browser has all that it needs.
        await alice.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
        await alice.reload()
        await alice.shows("before the blackout", 30)
        await alice.there("document.querySelector('.photo img')?.naturalWidth > 0", 20, "the photo is seen without a network")
        await alice.shows("No connection to your node", 30)
        await alice.write("written in the dark")
        await alice.shows("Will be sent when your node is back", 30)

        await here.start()
        await alice.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
        await bob.shows_message("written in the dark", 90)
        await alice.there("!document.querySelector('.banner .icon') || !document.body.innerText.includes('No connection')", 30)
        at_peace(bob)


@pytest.mark.synapse
async def test_against_synapse_two_people_write_send_a_photo_and_nothing_of_the_extension_is_missed(lan, tmp_path):
    server = Synapse(lan.network.host("synapse"), tmp_path)
    lan.nodes.append(server)
    await server.start(90)
    await lan.user(server, "carol")
    async with served(server) as url, person(server, "Alice", url) as alice, web_client(server, url) as bob:
        await sign_up(bob, "Bob")
        await write_to(alice, bob, "over an ordinary homeserver")
        await bob.choose_files(".composer input[type=file]", photo(tmp_path))
        await alice.there("document.querySelector('.photo img')?.naturalWidth > 0", 30)
        await bob.there("document.querySelector('.mark.read')", 20)
        await alice.run("location.hash = '#/settings'")
        await alice.shows("Blocked people")
        assert "My node" not in await alice.text()
        at_peace(alice, bob)


async def test_who_wants_to_be_found_is_seen_near_and_a_message_says_how_far_it_has_got(lan):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with here.http() as http, http.get("/_matrix/client/versions") as answer:
        if not (await answer.json())["unstable_features"].get("org.kith.node"):
            pytest.skip("this node does not have the extension org.kith.node")
    async with person(here, "Alice") as alice, person(there, "Bob") as bob:
        await bob.click("Add a person")
        await bob.click("People near you can find you")
        await alice.click("css:.near a", 60)
        await alice.click("Write", 20)
        await bob.click("css:.conversation.invite", 30)
        await bob.click("Accept")
        await alice.shows("Bob joined", 30)
        await alice.write("from near")
        await bob.shows_message("from near", 30)
        await alice.there("document.querySelector('.mark.delivered, .mark.read')", 30, "it is delivered")
        await bob.run("location.hash = '#/settings/node'")
        await bob.shows("Waiting to be sent", 20)
        there.kill()
        await alice.write("are you there?")
        await alice.shows("Waiting for the device of Bob", 60)
        await there.start()
        await alice.there("!document.body.innerText.includes('Waiting for the device')", 90, "it waits no more")


async def test_of_two_tabs_one_is_open_and_the_other_says_so_takes_over_and_takes_the_place_of_one_that_is_closed(lan):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with served(here) as url, person(here, "Alice", url) as first, person(there, "Bob") as bob:
        await write_to(first, bob, "from the first tab")
        async with tab(first.browser, url) as second:
            await second.shows("kith is open in another tab", 20)
            await first.write("still from the first")
            await bob.shows_message("still from the first", 30)

            await second.click("Use it here")
            await second.click("css:.conversation", 30)
            await second.shows_message("still from the first", 30)
            await first.shows("kith is open in another tab", 20)
            await second.write("from the second tab")
            await bob.shows_message("from the second tab", 30)
            await bob.write("heard by one of them")
            await second.shows_message("heard by one of them", 30)
            at_peace(second)
            await second.call("Page.close")
        # Nobody has to do anything.
        await first.click("css:.conversation", 30)
        await first.shows_message("heard by one of them", 30)
        await first.write("from the first again")
        await bob.shows_message("from the first again", 30)
        at_peace(first, bob)
