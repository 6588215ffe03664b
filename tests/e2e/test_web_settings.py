"""The web client's settings and what they do, its notifications, and all of it by the keyboard."""

from __future__ import annotations

import asyncio

from waiting import eventually
from web_client import WebClient, served
from web_people import at_peace, person, photo, user_id, write_to


async def open_settings(page: WebClient, section: str) -> None:
    await page.run(f"location.hash = '#/settings/{section}'")
    await page.there("document.querySelector('.page-body .card')")


async def chosen(page: WebClient, option: str) -> None:
    """Waits until an option is the one that is chosen."""
    await page.there(f"[...document.querySelectorAll('label.chosen')].some((e) => e.innerText.trim() === {option!r} && e.querySelector('input').checked)", 20, f"{option} is chosen")


BACKGROUND = "getComputedStyle(document.documentElement).backgroundColor + getComputedStyle(document.body).backgroundColor"


async def test_each_setting_has_its_effect_and_is_kept_over_a_reload(lan, tmp_path):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with served(here) as url, person(here, "Alice", url) as alice, person(there, "Bob") as bob:
        await write_to(alice, bob, "who is this?")
        room = await alice.run("location.hash")

        await open_settings(alice, "profile")
        await alice.fill("Your name", "Alice Liddell")
        await alice.click("Save")
        await bob.there("document.querySelector('.room-name').textContent === 'Alice Liddell'", 30, "the new name is seen")
        await alice.choose_files(".card input[type=file]", photo(tmp_path))
        await alice.there("document.querySelector('.me .avatar img')?.naturalWidth > 0", 20, "the picture is seen here")
        await bob.there("document.querySelector('.room-title .avatar img')?.naturalWidth > 0", 30, "the picture is seen there")

        await open_settings(alice, "appearance")
        light = await alice.run(BACKGROUND)
        await alice.click("Dark")
        await alice.there(f"{BACKGROUND} !== {light!r}", 10, "it is dark")
        await alice.click("Deutsch")
        await alice.shows("Farben")
        await alice.reload()
        await chosen(alice, "Dunkel")
        await chosen(alice, "Deutsch")
        assert await alice.run("document.documentElement.lang") == "de"
        assert await alice.run(BACKGROUND) != light
        await alice.click("English")
        await alice.click("Light")
        await alice.there(f"{BACKGROUND} === {light!r}", 10, "it is light")

        await open_settings(alice, "notifications")
        await alice.click("Name only")
        await alice.click("Show others what I have read")
        await alice.reload()
        await chosen(alice, "Name only")
        await alice.there("document.querySelector('input[role=switch]')?.checked === false", 20, "others are not told")
        await alice.run(f"location.hash = {room!r}")
        await bob.write("did you read this?")
        await alice.shows_message("did you read this?", 30)
        await alice.there("performance.getEntriesByType('resource').some(({ name }) => name.includes('/receipt/m.read.private/'))", 20, "the receipt is private")
        assert not await bob.run("document.querySelector('.mark.read')")
        await open_settings(alice, "notifications")
        await alice.click("Show others what I have read")
        await alice.run(f"location.hash = {room!r}")
        await bob.write("and this?")
        await bob.there("document.querySelector('.mark.read')", 30, "now it is told")
        at_peace(alice, bob)


async def test_who_is_blocked_is_not_heard_until_unblocked(lan):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with served(here) as url, person(here, "Alice", url) as alice, person(there, "Bob") as bob:
        await write_to(bob, alice, "good day")
        room = await alice.run("location.hash")
        await open_settings(alice, "blocked")
        await alice.fill("Block somebody", await user_id(bob))
        await alice.click("Block")
        await alice.there("document.querySelector('.person-list .address')", 20, "he is in the list")
        await alice.reload()
        await alice.there("document.querySelector('.person-list .address')", 20, "he is in the list still")
        await alice.run(f"location.hash = {room!r}")
        await alice.there("document.querySelector('.composer textarea')")
        await alice.write("I do not hear you")
        await bob.shows_message("I do not hear you", 30)
        await bob.write("not even this?")
        await bob.there("document.querySelector('.mark.delivered, .mark.read')", 30, "it is delivered")
        await alice.write("nothing")
        await bob.shows_message("nothing", 30)
        heard = await alice.run("[...document.querySelectorAll('.message .body')].map((e) => e.textContent)")
        assert heard == ["I do not hear you", "nothing"], heard
        await open_settings(alice, "blocked")
        await alice.click("Unblock")
        await alice.shows("Nobody is blocked", 20)
        await alice.run(f"location.hash = {room!r}")
        await bob.write("and now?")
        await alice.shows_message("and now?", 30)
        at_peace(alice, bob)


async def test_storage_is_told_and_cleared_and_the_node_tells_of_itself(lan, tmp_path):
    node = lan.node("alice")
    await node.start()
    async with served(node) as url, person(node, "Alice", url) as alice:
        await alice.run("location.hash = '#/group'")
        await alice.fill("Name of the group", "Notes")
        await alice.click("Create the group")
        await alice.there("document.querySelector('.composer textarea')", 20)
        await alice.choose_files(".composer input[type=file]", photo(tmp_path))
        await alice.there("document.querySelector('.photo img')?.naturalWidth > 0", 30)
        kept = "caches.has('kith-media')"
        assert await alice.run(kept)
        await open_settings(alice, "storage")
        await alice.there("/[0-9] ?[kM]?B/.test(document.querySelector('.facts dd').innerText)", 20, "what is used is told")
        await alice.click("Clear pictures and files")
        await alice.shows("Cleared")
        assert not await alice.run(kept)
        # What was cleared here is fetched from the node again.
        await alice.click("css:.conversation")
        await alice.reload()
        await alice.there("document.querySelector('.photo img')?.naturalWidth > 0", 30)

        await open_settings(alice, "node")
        await alice.shows(node.identity()["server_name"], 20)
        await alice.shows("Nothing. Everything has been delivered.", 20)
        at_peace(alice)


NOTIFICATIONS = "navigator.serviceWorker.ready.then((it) => it.getNotifications()).then((all) => all.map(({ title, body }) => `${title}|${body}`).join())"

# A click on the notification that is shown; only the browser itself could make one that may be waited for.
CLICKED = """(async () => {
    ExtendableEvent.prototype.waitUntil = () => {};
    const [shown] = await registration.getNotifications();
    dispatchEvent(new NotificationEvent("notificationclick", { notification: shown }));
})()"""


async def test_a_message_to_a_page_that_is_not_looked_at_is_notified_and_a_click_leads_to_it(lan):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with served(here) as url, person(here, "Alice", url) as alice, person(there, "Bob") as bob:
        await alice.call("Browser.grantPermissions", permissions=["notifications"])
        await write_to(alice, bob, "hello")
        room = await alice.run("location.hash")
        await alice.there("navigator.serviceWorker.controller || navigator.serviceWorker.ready.then(() => true)", 20)

        async def notified() -> str:
            return await alice.run(NOTIFICATIONS)

        await bob.write("seen at once")
        await alice.shows_message("seen at once", 30)
        assert await notified() == "" and await alice.run("document.title") == "kith"

        await alice.run("location.hash = '#/settings'")
        async with alice.browser.page() as other:
            await other.call("Page.bringToFront")
            await alice.there("document.visibilityState === 'hidden'", 10, "the page is hidden")
            await bob.write("the tide turns")
            await eventually(notified, 30, "a notification is shown")
            assert await notified() == "Bob|Bob: the tide turns"
            await alice.there("document.title === '(1) kith'", 10, "the title counts")
            async with alice.browser.service_worker() as worker:
                await worker.run(CLICKED)
            await alice.there(f"location.hash === {room!r}", 10, "the conversation is open")
        await alice.call("Page.bringToFront")
        await alice.shows_message("the tide turns")
        await alice.there("document.title === 'kith'", 20, "nothing is unread")
        async def taken_back():
            return await notified() == ""
        await eventually(taken_back, 20, "what was read is not told any more")

        await alice.run(f"location.hash = {room!r} + '/info'")
        await alice.click("Mute")
        await alice.there("document.querySelector('.conversation .conversation-top svg')", 20, "it is muted")
        await alice.run("location.hash = '#/settings'")
        async with alice.browser.page() as other:
            await other.call("Page.bringToFront")
            await alice.there("document.visibilityState === 'hidden'", 10, "the page is hidden")
            await bob.write("psst")
            await alice.there("document.querySelector('.conversation-preview').textContent.includes('psst')", 30, "it has come")
            assert await notified() == "" and await alice.run("document.title") == "kith"
        at_peace(alice, bob)


async def focus(page: WebClient, selector: str, key: str = "Tab", shift: bool = False) -> None:
    """Presses a key until what is sought has the focus."""
    for _ in range(60):
        if await page.run(f"Boolean(document.activeElement?.matches({selector!r}))"):
            return
        await page.press(key, shift)
    raise AssertionError(f"{key} does not lead to {selector}, but to {await page.run('document.activeElement.outerHTML.slice(0, 200)')}")


async def test_the_main_path_needs_no_mouse(lan):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with served(here) as url, person(here, "Alice", url) as alice, person(there, "Bob") as bob:
        await write_to(bob, alice, "can you hear me?")
        await alice.run("location.hash = '#/'")
        await alice.reload()
        await alice.there("document.querySelector('.conversation')", 30)

        await focus(alice, ".search-box input")
        await focus(alice, "a.conversation", "ArrowDown")
        await alice.press_enter()
        await alice.shows_message("can you hear me?")
        await focus(alice, ".composer textarea")
        await alice.call("Input.insertText", text="by the keys")
        await alice.press_enter()
        await bob.shows_message("by the keys", 30)
        assert await alice.run("document.activeElement.matches('.composer textarea')"), "one goes on writing"

        # Back to the message of the other one, and an answer to it.
        await focus(alice, ".message:not(.mine) .tools [aria-expanded]", shift=True)
        await alice.press_enter()
        await alice.there("document.activeElement.matches('.menu [role=menuitem]')", 5, "the menu has the focus")
        await alice.press("Escape")
        await alice.there("!document.querySelector('.menu') && document.activeElement.matches('.tools button')", 5, "the focus is back at the message")
        await focus(alice, ".message:not(.mine) .tools [aria-expanded]")
        await alice.press_enter()
        await alice.there("document.activeElement.matches('.menu [role=menuitem]')", 5)
        for _ in range(20):
            if await alice.run("document.activeElement.textContent.trim()") == "Reply":
                break
            await alice.press("ArrowDown")
        await alice.press_enter()
        await alice.there("document.activeElement.matches('.composer textarea') && document.querySelector('.composer-about')", 5, "the answer can be typed")
        await alice.call("Input.insertText", text="loud and clear")
        await alice.press_enter()
        await bob.there("document.querySelector('.quote')?.innerText.includes('can you hear me?')", 30, "the answer quotes what it answers")

        # Details, a dialog in them, and out again.
        await focus(alice, ".room-title", shift=True)
        await alice.press_enter()
        await alice.shows("Copy the link to this conversation")
        await focus(alice, ".info-part .person")
        await bob.write("still there?")
        await alice.shows_message("still there?")
        assert await alice.run("document.activeElement.matches('.info-part .person')"), "what comes meanwhile takes no focus away"
        await alice.press_enter()
        await alice.there("document.querySelector('dialog[open]')?.contains(document.activeElement)", 5, "the dialog has the focus")
        await alice.press("Escape")
        await alice.there("!document.querySelector('dialog') && document.activeElement.matches('.info-part .person')", 5, "the focus is back where it was")
        await alice.press("Escape")
        await alice.there("!document.querySelector('.side-panel') && document.activeElement.matches('.room-title')", 5, "the details are closed, and the focus is back")
        at_peace(alice, bob)
