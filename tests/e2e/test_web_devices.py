"""The web client on several devices: signing in, confirming, restoring."""

from __future__ import annotations

import asyncio
import json

import pytest

from web_client import served, web_client
from web_people import at_peace, person, photo, sign_up, user_id, write_to


async def test_a_second_device_signs_in_by_link_is_confirmed_by_emoji_and_reads_what_was_said_before(lan):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with served(here) as url, person(here, "Alice", url) as alice, person(there, "Bob") as bob:
        await write_to(alice, bob, "from before the second device")
        await alice.run("location.hash = '#/settings/devices'")
        await alice.click("Show code")
        link = await alice.there("document.querySelector('[data-link]')?.dataset.link", 20)
        async with web_client(here, url, link.split("/", 3)[3]) as laptop:
            await laptop.click("css:.conversation", 40)
            await laptop.shows("This device is new", 20)
            await laptop.shows("cannot be decrypted yet", 20)
            await alice.click("Close")
            await laptop.click("Complete")
            await laptop.click("Confirm with another device")
            await alice.click("Begin", 20)
            await laptop.click("Compare emoji", 20)
            emoji = await laptop.there("[...document.querySelectorAll('.emoji-row li')].map((e) => e.innerText).join()", 20)
            assert emoji == await alice.there("[...document.querySelectorAll('.emoji-row li')].map((e) => e.innerText).join()", 20)
            for page in (laptop, alice):
                await page.click("They match")
            for page in (laptop, alice):
                await page.shows("The device is confirmed", 30)
                await page.click("Done")
            await laptop.shows_message("from before the second device", 60)
            await laptop.there("!document.body.innerText.includes('This device is new')", 15)
            await laptop.write("from the laptop")
            await bob.shows_message("from the laptop", 30)
            at_peace(alice, bob, laptop)


# Clients wait up to ten seconds before they put keys into the backup.
BACKED_UP = """(async () => {
    const { base_url, access_token } = JSON.parse(localStorage.getItem('kith.session'));
    const answer = await fetch(base_url + '/_matrix/client/v3/room_keys/version', { headers: { Authorization: `Bearer ${access_token}` } });
    return (await answer.json()).count >= 2;
})()"""


async def test_a_lost_browser_profile_comes_back_by_the_recovery_key_with_all_messages(lan, tmp_path):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with served(here) as url, person(there, "Bob") as bob:
        async with person(here, "Alice", url) as alice:
            await write_to(alice, bob, "remember this")
            await bob.choose_files(".composer input[type=file]", photo(tmp_path))
            await alice.there("document.querySelector('.photo img')?.naturalWidth > 0", 30)
            await alice.run("location.hash = '#/settings/profile'")
            await alice.click("Recovery key")
            key = await alice.there("document.querySelector('.recovery-key')?.textContent", 10)
            await alice.click("I have saved it")
            # The keys of both, hers and his, are in the backup before the profile is lost.
            await alice.there(BACKED_UP, 40, "two keys are in the backup")
        async with web_client(here, url) as again:
            await again.fill("User name", "alice")
            await again.fill("Passphrase or recovery key", key)
            await again.click("Sign in")
            await again.click("css:.conversation", 40)
            await again.shows_message("remember this", 60)
            await again.there("document.querySelector('.photo img')?.naturalWidth > 0", 30)
            assert "This device is new" not in await again.text()
            await again.write("I am back")
            await bob.shows_message("I am back", 30)
            at_peace(again, bob)


async def test_a_wrong_recovery_key_is_refused_and_the_right_one_completes_a_device_signed_in_by_passphrase(lan):
    node = lan.node("alice")
    await node.start()
    async with served(node) as url:
        async with person(node, "Alice", url, passphrase="correct horse battery") as alice:
            await alice.run("location.hash = '#/settings/profile'")
            await alice.click("Recovery key")
            key = await alice.there("document.querySelector('.recovery-key')?.textContent", 10)
            await alice.there(COMPLETED, 40, "the account has its identity and its backup")
        async with web_client(node, url) as again:
            await again.fill("User name", "alice")
            await again.fill("Passphrase or recovery key", "wrong horse battery")
            await again.click("Sign in")
            await again.shows("is not right")
            await again.fill("Passphrase or recovery key", "correct horse battery")
            await again.click("Sign in")
            await again.click("Complete", 40)
            await again.fill("Recovery key", "EsTX " * 12)
            await again.click("Use the recovery key")
            await again.shows("This is not the recovery key")
            await again.fill("Recovery key", key)
            await again.click("Use the recovery key")
            await again.shows("Your messages are restored", 30)
            await again.run("location.hash = '#/settings/devices'")
            await again.shows("This device · verified", 20)


async def test_two_people_verify_each_other_and_either_can_leave_at_any_step(lan):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with person(here, "Alice") as alice, person(there, "Bob") as bob:
        await write_to(alice, bob, "is that you?")
        profile = f"location.hash = '#/user/' + encodeURIComponent({await user_id(bob)!r})"
        await alice.run(profile)
        await alice.click("Verify", 20)
        await bob.shows("wants to make sure", 30)
        await bob.click("Not now")
        await alice.shows("was cancelled", 30)
        await alice.click("Close")
        await alice.run(profile)
        await alice.click("Verify", 20)
        await bob.click("Begin", 30)
        await alice.shows("Compare emoji", 30)
        await alice.click("Cancel")
        await bob.shows("was cancelled", 30)
        await bob.click("Close")
        await alice.run(profile)
        await alice.click("Verify", 20)
        await bob.click("Begin", 30)
        await alice.click("Compare emoji", 30)
        for page in (alice, bob):
            await page.there("document.querySelectorAll('.emoji-row li').length === 7", 30)
        await bob.click("They differ")
        await alice.shows("did not match", 30)
        await bob.click("Close")
        await alice.click("Close")
        await alice.run(profile)
        await alice.click("Verify", 20)
        await bob.click("Begin", 30)
        await bob.click("Compare emoji", 30)
        for page in (alice, bob):
            await page.click("They match", 30)
        for page, name in ((alice, "Bob"), (bob, "Alice")):
            await page.shows(f"You can be sure that you write to {name}", 30)


# A page whose first request to this address never gets an answer, as when it is closed just then.
HANG = """(() => {
    const real = window.fetch.bind(window);
    window.fetch = (input, init) => {
        if (!String(input.url ?? input).includes(%s) || (init?.method ?? "GET") === "GET") return real(input, init);
        window.hangs_ = true;
        return new Promise(() => {});
    };
})()"""


COMPLETED = """(async () => {
    const get = (request) => new Promise((done, fail) => { request.onsuccess = () => done(request.result); request.onerror = () => fail(request.error); });
    const kept = await get((await get(indexedDB.open('kith-local'))).transaction('values').objectStore('values').get('recovery'));
    return Boolean(kept) && !kept.unfinished;
})()"""


@pytest.mark.parametrize("step", ["/profile/", "/keys/device_signing/upload", "/keys/signatures/upload", "m.secret_storage.default_key", "/room_keys/version", "m.megolm_backup.v1"])
async def test_a_first_device_that_is_closed_while_it_sets_itself_up_completes_at_its_next_start(lan, step):
    node = lan.node("alice")
    await node.start()
    async with served(node) as url:
        async with web_client(node, url) as alice:
            hang = await alice.call("Page.addScriptToEvaluateOnNewDocument", source=HANG % json.dumps(step))
            await alice.reload()
            await sign_up(alice, "Alice Liddell")
            await alice.there("window.hangs_", 30, f"it is at {step}")
            await alice.call("Page.removeScriptToEvaluateOnNewDocument", identifier=hang["identifier"])
            await alice.reload()
            await alice.there(COMPLETED, 30, "it has completed")
            await alice.run("location.hash = '#/settings/profile'")
            await alice.there("document.querySelector('.field input')?.value === 'Alice Liddell'", 20, "the name is kept")
            await alice.click("Recovery key")
            key = await alice.there("document.querySelector('.recovery-key')?.textContent", 10)
            await alice.click("I have saved it")
            at_peace(alice)
        async with web_client(node, url) as again:
            await again.fill("User name", "alice-liddell")
            await again.fill("Passphrase or recovery key", key)
            await again.click("Sign in")
            await again.shows("Good to have you here", 40)
            await again.run("location.hash = '#/settings/devices'")
            await again.shows("This device · verified", 30)
