"""Groups in the web client: who is in them, who may do what, how they are called, how one comes in and goes."""

from __future__ import annotations

import asyncio
import json

from client import MatrixError
from waiting import eventually
from web_client import WebClient, served, web_client
from web_people import at_peace, person, photo, sign_up, user_id

# A request of the page's own account.
ASK = """(async (method, path, body) => {
    const { base_url, access_token } = JSON.parse(localStorage.getItem('kith.session'));
    const answer = await fetch(base_url + path, { method, headers: { Authorization: `Bearer ${access_token}` }, ...(body ? { body: JSON.stringify(body) } : {}) });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
})(%s)"""


async def ask(page: WebClient, *arguments):
    """Asks the homeserver as the page's own account: method, path and perhaps a body."""
    return await page.run(ASK % ", ".join(json.dumps(each) for each in arguments))


async def open_details(page: WebClient, room_id: str) -> None:
    await page.run(f"location.hash = '#/room/' + encodeURIComponent({room_id!r}) + '/info'")
    await page.shows("Copy the link to this conversation")


async def open_member(page: WebClient, name: str, where: str = ".member-list") -> None:
    """Opens what may be done about somebody."""
    await page.there(
        f"(() => {{ const row = [...document.querySelectorAll('{where} .person')].find((e) => e.textContent.includes({name!r})); row?.click(); return Boolean(row); }})()",
        20, f"{name} is in {where}",
    )
    await page.there("document.querySelector('dialog[open]')")


async def choices(page: WebClient) -> set[str]:
    """What the open dialog offers."""
    return set(await page.run("[...document.querySelectorAll('dialog[open] .stack > *, dialog[open] .choice label')].map((e) => e.textContent.trim())"))


async def new_group(page: WebClient, name: str, *invited: str) -> str:
    """Makes a group in the client. Returns its room ID."""
    await page.run("location.hash = '#/group'")
    await page.fill("Name of the group", name)
    for each in invited:
        await page.fill("Find by name or address", each)
        await page.click("css:.people-picker label:has(input[type=checkbox])")
        await page.there("document.querySelector('.chips .chip')")
    await page.click("Create the group")
    return await page.there("decodeURIComponent(location.hash.match(/^#\\/room\\/([^/]+)/)?.[1] ?? '')", 20, "the group is open")


async def test_a_group_is_led_by_those_who_may_and_by_nobody_else(lan):
    node = lan.node("alice")
    await node.start()
    carol = await lan.user(node, "carol")
    async with served(node) as url, person(node, "Alice", url) as alice, web_client(node, url) as bob:
        await sign_up(bob, "Bob")
        room_id = await new_group(alice, "Garden", await user_id(bob))
        membership = f"/_matrix/client/v3/rooms/{room_id}/state/m.room.member/{carol.user_id}"

        async def carol_is(what: str) -> None:
            async def so():
                return (await ask(alice, "GET", membership))["membership"] == what
            await eventually(so, 20, f"the membership of Carol is {what}")

        async def invite_carol() -> None:
            await open_details(alice, room_id)
            await alice.click("Invite")
            await alice.fill("Find by name or address", carol.user_id)
            await alice.click("css:dialog[open] label.person")
            await alice.click("css:dialog[open] > .dialog-inside > .button.primary")
            await carol_is("invite")
            await carol.request("POST", f"/_matrix/client/v3/join/{room_id}", {})

        await bob.click("css:.conversation.invite", 30)
        await bob.click("Accept")
        await invite_carol()

        # A member sees who is in it, and can do nothing about them.
        await open_details(bob, room_id)
        await bob.there("document.querySelector('.info-top')")
        assert "Change name and topic" not in await bob.text()
        assert await bob.run("document.querySelector('.info-top .avatar-button').disabled")
        assert not await bob.run("[...document.querySelectorAll('.switch-row')].some((e) => e.textContent.includes('Anybody may join'))")
        await open_member(bob, "carol")
        assert await choices(bob) == {"Person", "Block"}
        await bob.click("Close")

        # Who was made a moderator can remove and ban, but not the admin, and makes no admins.
        await open_member(alice, "Bob")
        assert {"Member", "Moderator", "Admin", "Remove", "Ban"} < await choices(alice)
        await alice.click("Moderator")
        await bob.there("[...document.querySelectorAll('.member-list .person')].some((e) => /Bob.*Moderator/s.test(e.textContent))", 20, "Bob is a moderator")
        await open_member(bob, "Alice")
        assert await choices(bob) == {"Person", "Block"}
        await bob.click("Close")
        await open_member(bob, "carol")
        assert await choices(bob) == {"Person", "Block", "Remove", "Ban"}
        await bob.click("Remove")
        await bob.click("Remove")
        await carol_is("leave")
        await alice.shows("Bob removed carol", 20)

        await invite_carol()
        await open_member(bob, "carol")
        await bob.click("Ban")
        await bob.shows("cannot come back until the ban is lifted")
        await bob.click("Cancel")
        await carol_is("join")
        await open_member(bob, "carol")
        await bob.click("Ban")
        await bob.click("Ban")
        await carol_is("ban")
        await alice.shows("Bob banned carol", 20)
        await open_member(bob, "carol", ".banned-list")
        assert "Lift the ban" in await choices(bob)
        await bob.click("Lift the ban")
        await carol_is("leave")
        await bob.there("!document.querySelector('.banned-list')", 20, "nobody is banned any more")
        await invite_carol()
        await carol_is("join")

        # Whoever is put out is told so.
        await open_member(alice, "Bob")
        await alice.click("Ban")
        await alice.click("Ban")
        await bob.shows("Alice banned you from this conversation", 20)
        assert not await bob.run("[...document.querySelectorAll('main button')].some((e) => e.textContent === 'Join')")
        await bob.there("!document.querySelector('.conversation')", 20, "it is not among the conversations of Bob")
        at_peace(alice, bob)


async def test_a_group_gets_a_name_a_topic_and_a_picture_is_opened_left_and_replaced(lan, tmp_path):
    node = lan.node("alice")
    await node.start()
    carol = await lan.user(node, "carol")
    async with served(node) as url, person(node, "Alice", url) as alice, web_client(node, url) as bob:
        await sign_up(bob, "Bob")
        room_id = await new_group(alice, "Garden", await user_id(bob))
        await bob.click("css:.conversation.invite", 30)
        await bob.click("Accept")
        await open_details(bob, room_id)

        await open_details(alice, room_id)
        await alice.click("Change name and topic")
        await alice.fill("Name of the group", "Garden and shed")
        await alice.fill("What is it about?", "Beans, mostly")
        await alice.click("Save")
        await bob.there("document.querySelector('.conversation-name').textContent === 'Garden and shed'", 20, "the new name is in the list")
        await bob.shows("Beans, mostly", 20)
        await bob.shows("Alice named it “Garden and shed”.")
        await alice.choose_files(".info-top input[type=file]", photo(tmp_path))
        await bob.there("document.querySelector('.conversation .avatar img')?.naturalWidth > 0", 20, "the picture is in the list")

        # By invitation, until it is opened to everybody; then it is listed too.
        async def joins() -> bool:
            try:
                await carol.request("POST", f"/_matrix/client/v3/join/{room_id}", {})
            except MatrixError:
                return False
            return True

        async def listed() -> bool:
            return room_id in [each["room_id"] for each in (await ask(alice, "GET", "/_matrix/client/v3/publicRooms"))["chunk"]]

        assert not await joins() and not await listed()
        await alice.click("Anybody may join")
        await bob.shows("Alice opened it to everybody", 20)
        await eventually(joins, 10, "Carol comes in")
        await eventually(listed, 10, "it is listed")
        await carol.request("POST", f"/_matrix/client/v3/rooms/{room_id}/leave", {})
        await alice.click("Anybody may join")
        for page in (alice, bob):
            await page.shows("Alice made it by invitation only", 20)
        assert not await joins()
        await alice.click("Anybody may join")
        await eventually(listed, 10, "it is listed again")

        # Where it was replaced, one goes on in the new room, which alone stands in the list and leads back.
        versions = (await ask(alice, "GET", "/_matrix/client/v3/capabilities"))["capabilities"]["m.room_versions"]
        made = await ask(alice, "POST", f"/_matrix/client/v3/rooms/{room_id}/upgrade", {"new_version": versions["default"]})
        for page in (alice, bob):
            await page.click("Go there", 20)
            await page.there(f"location.hash.includes(encodeURIComponent({made['replacement_room']!r}))")
            await page.there("document.querySelectorAll('.conversation').length === 1", 20, "the conversation stands in the list once")
            await page.shows("Older messages")
        await bob.write("in the new room")
        await alice.shows_message("in the new room")
        await bob.click("Older messages")
        await bob.shows("This room was replaced", 20)

        await open_details(bob, made["replacement_room"])
        await bob.click("Leave")
        await bob.click("Leave")
        await alice.shows("Bob left.", 20)
        await bob.there("location.hash === '#/'")
        at_peace(alice, bob)


async def test_public_groups_of_the_own_node_and_of_a_named_server_are_found_and_joined(lan):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    carol = await lan.user(here, "carol")
    near = await carol.create_room(encrypted=False, name="Tool library", preset="public_chat", visibility="public")
    async with person(here, "Alice") as alice, person(there, "Bob") as bob:
        await bob.run("location.hash = '#/group'")
        await bob.fill("Name of the group", "Harbour watch")
        await bob.fill("What is it about?", "Ships that pass")
        await bob.click("Anybody may join")
        await bob.click("Create the group")
        await bob.there("document.querySelector('.composer textarea')")

        await alice.click("Add a person")
        await alice.click("Public groups")
        await alice.shows("Tool library", 20)
        await alice.fill("Name or topic", "nothing of this kind")
        await alice.press_enter()
        await alice.shows("No public groups there", 20)
        await alice.fill("Name or topic", "tool")
        await alice.press_enter()
        await alice.click("Join", 20)
        await alice.shows("Alice joined", 20)
        assert near in await alice.run("decodeURIComponent(location.hash)")

        await alice.run("location.hash = '#/public'")
        await alice.shows("Tool library", 20)
        await alice.shows("Open")
        await alice.fill("Server", there.identity()["server_name"])
        await alice.press_enter()
        await alice.shows("Ships that pass", 30)
        assert "Tool library" not in await alice.run("document.querySelector('.public-rooms').innerText")
        await alice.click("Join")
        await alice.there("document.querySelector('.composer textarea')", 30)
        await alice.write("a white sail in the north")
        await bob.shows_message("a white sail in the north", 30)

        await alice.run("location.hash = '#/public'")
        await alice.fill("Server", "nowhere.invalid")
        await alice.press_enter()
        await alice.there("document.querySelector('.problem')", 40, "that it cannot be asked is said")
        at_peace(alice, bob)
