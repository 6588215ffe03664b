"""Photos, files, voices and codes in the web client: pasted, dropped, recorded, scanned."""

from __future__ import annotations

import asyncio
import base64
import re
import struct
from pathlib import Path

from waiting import eventually
from web_client import WebClient
from web_people import at_peace, person, user_id, write_to

MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required")


def camera(film: Path) -> tuple[str, ...]:
    """Flags for a browser whose camera sees this film, over and over."""
    return ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={film}")


# --- photos and files

# What the page makes addresses for, kept so that a test can look into it.
KEEP_BLOBS = """(() => {
    const make = URL.createObjectURL;
    window.blobs_ = [];
    URL.createObjectURL = (blob) => { window.blobs_.push(blob); return make.call(URL, blob); };
})()"""

# A photo 400 wide and 300 high: red at the left, blue at the right.
TAKEN = """(async () => {
    const canvas = new OffscreenCanvas(400, 300), context = canvas.getContext("2d");
    for (const [colour, x] of [["red", 0], ["blue", 200]]) { context.fillStyle = colour; context.fillRect(x, 0, 200, 300); }
    const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 })).arrayBuffer());
    return btoa(String.fromCharCode(...bytes));
})()"""

PASTE = """((name, type, data) => {
    const files = new DataTransfer();
    files.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type }));
    document.querySelector(".composer textarea").dispatchEvent(new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true }));
})"""


def exif() -> bytes:
    """What a camera notes that was held upright: to be turned by a quarter, and where it was (52° N, 13° E)."""
    def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
        return struct.pack(">HHI", tag, kind, count) + value.ljust(4, b"\0")
    places = 8 + 2 + 2 * 12 + 4
    degrees = places + 2 + 4 * 12 + 4
    main = struct.pack(">H", 2) + entry(0x0112, 3, 1, struct.pack(">H", 6)) + entry(0x8825, 4, 1, struct.pack(">I", places)) + bytes(4)
    gps = (
        struct.pack(">H", 4) + entry(1, 2, 2, b"N\0") + entry(2, 5, 3, struct.pack(">I", degrees))
        + entry(3, 2, 2, b"E\0") + entry(4, 5, 3, struct.pack(">I", degrees + 24)) + bytes(4)
    )
    numbers = struct.pack(">12I", 52, 1, 30, 1, 0, 1, 13, 1, 24, 1, 0, 1)
    return b"Exif\0\0MM" + struct.pack(">HI", 42, 8) + main + gps + numbers


def with_exif(jpeg: bytes) -> bytes:
    noted = exif()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(noted) + 2) + noted + jpeg[2:]


async def blobs(page: WebClient, kind: str) -> list[bytes]:
    """The files of a kind that the page showed or saved."""
    read = """(async (kind) => {
        const found = window.blobs_.filter((blob) => blob.type === kind);
        return Promise.all(found.map(async (blob) => btoa(String.fromCharCode(...new Uint8Array(await blob.arrayBuffer())))));
    })"""
    return [base64.b64decode(each) for each in await page.run(f"{read}({kind!r})")]


async def drop(page: WebClient, *files: Path) -> None:
    """Drops files in the middle of the conversation, as from a file manager."""
    x, y = await page.run("(() => { const box = document.querySelector('.timeline').getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()")
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        await page.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)
    await page.shows("Drop to send")
    await page.call("Input.dispatchDragEvent", type="drop", x=x, y=y, data=data)


async def test_pasted_photos_arrive_upright_and_tell_nothing_of_the_place_and_dropped_files_arrive_as_they_are(lan, tmp_path):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with person(here, "Alice") as alice, person(there, "Bob") as bob:
        await write_to(alice, bob, "look at this")
        await bob.run(KEEP_BLOBS)
        photo = with_exif(base64.b64decode(await alice.run(TAKEN)))
        assert exif() in photo
        await alice.run(f"{PASTE}('IMG_1.jpeg', 'image/jpeg', '{base64.b64encode(photo).decode()}')")
        await bob.there("document.querySelector('.photo img')?.naturalWidth > 0", 30, "the photo is seen")
        seen = await bob.run("""(() => {
            const image = document.querySelector('.photo img'), canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight), context = canvas.getContext("2d", { willReadFrequently: true });
            context.drawImage(image, 0, 0);
            const at = (part) => [...context.getImageData(canvas.width / 2, canvas.height * part, 1, 1).data].map((v) => v > 127);
            return { size: [canvas.width, canvas.height], top: at(0.25), bottom: at(0.75) };
        })()""")
        assert seen == {"size": [300, 400], "top": [True, False, False, True], "bottom": [False, False, True, True]}, seen
        arrived = await blobs(bob, "image/jpeg")
        assert arrived and all(each.startswith(b"\xff\xd8") for each in arrived)
        assert not any(b"Exif" in each or b"GPS" in each or b"http://ns.adobe.com/xap" in each for each in arrived)

        note = tmp_path / "notes.txt"
        note.write_bytes("Tide tables\n\0\xff".encode("latin-1") * 500)
        await drop(alice, note)
        await alice.there("!document.querySelector('.drop-hint')")
        await bob.click("Save notes.txt", 30)
        async def saved():
            return note.read_bytes() in await blobs(bob, "application/octet-stream")
        await eventually(saved, 20, "the file is saved as it was")
        at_peace(alice, bob)


# --- voices

async def test_a_voice_message_is_recorded_sent_encrypted_and_heard(lan):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    async with person(here, "Alice", flags=MICROPHONE) as alice, person(there, "Bob", flags=MICROPHONE) as bob:
        await write_to(alice, bob, "listen")
        await alice.click("Voice message")
        await alice.there("/0:0[2-9]/.test(document.querySelector('.recorder time')?.textContent)", 20, "two seconds are recorded")
        await alice.click("Discard")
        await alice.there("document.querySelector('.composer textarea')")
        assert not await alice.run("document.querySelector('.sound')")

        await alice.click("Voice message")
        await alice.there("/0:0[2-9]/.test(document.querySelector('.recorder time')?.textContent)", 20, "two seconds are recorded")
        await alice.click("Send")
        await bob.there("document.querySelector('.sound')", 30, "the voice message has arrived")
        heights = await bob.run("[...document.querySelectorAll('.sound .waves span')].map((e) => parseInt(e.style.height))")
        assert max(heights) - min(heights) > 5, f"the device beeps, and the waves show it: {heights}"
        assert re.match(r"0:0[2-9]", await bob.run("document.querySelector('.sound-time').textContent"))
        await bob.click("css:.sound button")
        await bob.there("document.querySelector('.sound .heard')", 20, "it is heard")
        await bob.there("document.querySelector('.sound button').getAttribute('aria-label').startsWith('Play')", 20, "it has come to its end")

        # The homeserver saw neither text nor sound.
        kinds = await bob.run("""(async () => {
            const { base_url, access_token } = JSON.parse(localStorage.getItem('kith.session'));
            const room = location.hash.match(/^#\\/room\\/([^/]+)/)[1];
            const answer = await fetch(`${base_url}/_matrix/client/v3/rooms/${room}/messages?dir=b&limit=2`, { headers: { Authorization: `Bearer ${access_token}` } });
            return (await answer.json()).chunk.map((event) => event.type);
        })()""")
        assert kinds == ["m.room.encrypted", "m.room.encrypted"], kinds
        at_peace(alice, bob)


# --- codes

WIDTH, HEIGHT = 640, 480


def film(file: Path, drawn: dict | None) -> None:
    """What a camera sees: a sheet of white paper, or a code held before it (the modules of its picture in the page)."""
    light = bytearray(b"\xeb" * (WIDTH * HEIGHT))
    if drawn:
        side = drawn["size"]
        scale = HEIGHT // side
        left, top = (WIDTH - side * scale) // 2, (HEIGHT - side * scale) // 2
        for x, y in re.findall(r"M(\d+) (\d+)h1", drawn["path"]):
            for row in range(scale):
                begin = (top + int(y) * scale + row) * WIDTH + left + int(x) * scale
                light[begin:begin + scale] = b"\x10" * scale
    colour = b"\x80" * (WIDTH * HEIGHT // 2)
    # Replaced at once, so that no camera sees half of it.
    made = file.with_suffix(".new")
    made.write_bytes(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F10:1 Ip A1:1 C420jpeg\n".encode() + (b"FRAME\n" + bytes(light) + colour) * 3)
    made.rename(file)


CODE = "(() => { const code = document.querySelector('%s.qr-code'); return code && { size: code.viewBox.baseVal.width, path: code.querySelector('path').getAttribute('d') }; })()"


async def code_of(page: WebClient, within: str = "") -> dict:
    """The code that a page shows."""
    return await eventually(lambda: page.run(CODE % within), 20, "a code is shown")


async def test_somebody_is_added_by_scanning_their_code(lan, tmp_path):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    seen = tmp_path / "seen.y4m"
    async with person(there, "Bob") as bob:
        await bob.click("Add a person")
        await bob.shows("My code")
        film(seen, await code_of(bob))
        async with person(here, "Alice", flags=camera(seen)) as alice:
            await alice.click("Add a person")
            await alice.click("Scan a code")
            await alice.shows(await user_id(bob), 30)
            await alice.click("Write", 20)
            await bob.click("css:.conversation.invite", 30)
            await bob.click("Accept")
            await alice.shows("Bob joined", 30)
            await alice.write("found you")
            await bob.shows_message("found you", 30)
            at_peace(alice, bob)


async def test_two_people_verify_each_other_by_code_with_emoji_offered_beside_it(lan, tmp_path):
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    seen = tmp_path / "seen.y4m"
    film(seen, None)
    async with person(here, "Alice", flags=camera(seen)) as alice, person(there, "Bob") as bob:
        await write_to(alice, bob, "is that you?")
        await alice.run(f"location.hash = '#/user/' + encodeURIComponent({await user_id(bob)!r})")
        await alice.click("Verify", 20)
        await bob.click("Begin", 30)
        film(seen, await code_of(bob, "dialog[open] "))
        for page in (alice, bob):
            await page.shows("Compare emoji", 20)
            await page.there("document.querySelector('dialog[open] .qr-code')", 20, "the code stands beside the emoji")
        # Into the camera's view and out again.
        await alice.click("Scan their code")
        await alice.shows("Point the camera")
        await alice.click("Back")
        await alice.shows("Compare emoji")
        await alice.click("Scan their code")
        await bob.shows("Has Alice scanned your code", 30)
        await bob.click("Yes, it fits")
        for page, name in ((alice, "Bob"), (bob, "Alice")):
            await page.shows(f"You can be sure that you write to {name}", 30)
            await page.click("Done")
        await alice.shows("You have verified each other", 20)
        at_peace(alice, bob)
