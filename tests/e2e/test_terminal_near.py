"""What a node tells beside the Matrix API, as the terminal client shows it: people near, links, how far messages have got."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess

from terminal_scene import chat_on
from waiting import eventually
from web_client import SOURCES


async def test_people_near_are_found_and_written_to_and_each_message_tells_how_far_it_has_got(lan):
    here, there = lan.node("here"), lan.node("there")
    await asyncio.gather(here.start(), there.start())
    alice, bob = await chat_on(lan, here, "alice"), await chat_on(lan, there, "bob")
    for chat, name in ((alice, "Alice"), (bob, "Bob Near")):
        await chat.run("profile", "--name", name)
    other = await bob.open()
    await other.press(":")
    await other.say("near on")
    await other.shows("people near see your name")

    screen = await alice.open()
    await screen.press("f2")

    def found():
        """Looks again until the other node was heard of and has introduced its people."""
        screen.type("r")
        return "● Bob Near" in screen.text()
    await screen.shows("People")
    await eventually(found, 60, "bob is shown as near", every=0.5)
    assert re.search(r"● Bob Near  near  @bob:", screen.text()), screen.text()
    await screen.press("enter")
    await screen.shows("Enter send")
    await other.shows("invited", deadline=60)
    await other.press("enter", "y")
    await other.shows("Alice", "Enter send")
    await screen.shows("Bob Near joined", deadline=60)

    await screen.say("from near")
    await other.shows("from near")
    # The other one looks at it: it is delivered and read.
    await screen.shows("from near ✓✓")
    # Who looks elsewhere reads nothing: delivered is all there is to tell.
    other.type("\x1b[O")
    await screen.say("unread")
    await screen.shows("unread ✓✓")
    await screen.press("escape", "G", "up", "enter")
    await screen.shows("delivered")
    await screen.press("escape", "i")

    assert await there.stop() == 0
    await screen.say("are you there?")
    await screen.shows("are you there? ⌛", deadline=90)
    await screen.press("escape", "G", "up", "enter")
    await screen.shows("waiting for their device")
    await screen.press("escape")
    await screen.shows("are you there? ⌛ away since", deadline=60)
    await screen.press("i")
    await screen.say("/node")
    await screen.shows("My node", "waiting   ", "away since")
    await screen.press("escape")
    await there.start()
    await screen.shows("are you there? ✓✓", deadline=90)
    await other.shows("are you there?", deadline=60)


# Reads modules (rows of 0 and 1 in JSON) as a scanner does: with paper around them, each of four by four pixels.
SCANNER = """
import decode from %s;
const rows = JSON.parse(process.argv[1]), paper = 4, scale = 4;
const width = (rows[0].length + 2 * paper) * scale, height = (rows.length + 2 * paper) * scale;
const data = new Uint8ClampedArray(width * height * 4).fill(255);
for (let y = 0; y < height; y++) for (let x = 0; x < width; x++)
    if (rows[Math.floor(y / scale) - paper]?.[Math.floor(x / scale) - paper]) data.fill(0, (y * width + x) * 4, (y * width + x) * 4 + 3);
console.log(decode({ width, height, data }));
"""


def scanned(screen) -> str:
    """What the QR code on the screen says to whoever scans it: half blocks of black on white."""
    cells = {
        (row, column): cell.data for row, line in screen.screen.buffer.items() for column, cell in line.items()
        if (cell.fg, cell.bg) == ("000000", "ffffff")
    }
    rows, columns = ({place[axis] for place in cells} for axis in (0, 1))
    assert len(cells) == len(rows) * len(columns), "the code is a rectangle"
    modules = [[int(cells[row, column] in signs) for column in sorted(columns)] for row in sorted(rows) for signs in ("█▀", "█▄")]
    scanner = SCANNER % json.dumps(str(SOURCES / "node_modules/qr/decode.js"))
    done = subprocess.run(["node", "--input-type=module", "-e", scanner, json.dumps(modules)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


async def test_the_own_link_stands_in_a_qr_code_and_leads_to_a_node_that_discovery_does_not_find(lan):
    here, there = (lan.node(name, {"p2p": {"mdns": "off"}}) for name in ("here", "there"))
    await asyncio.gather(here.start(), there.start())
    alice, bob = await chat_on(lan, here, "alice"), await chat_on(lan, there, "bob")
    shows = await alice.open(columns=120, rows=60)
    await shows.press("f4")
    text = await shows.shows("matrix:u/alice:", "y copy")
    link = scanned(shows)
    assert link.startswith(f"matrix:u/{alice.user_id[1:]}?action=chat&org.kith.address=/ip"), link
    # The same stands below the code, for those who send it.
    assert link in "".join(line.split("│")[-2].strip() for line in text.splitlines() if line.count("│") >= 2), text

    screen = await bob.open()
    await screen.press("f5")
    await screen.shows("Add somebody")
    await screen.say(link)
    await screen.shows("Enter send", deadline=60)
    await shows.press("escape")
    await shows.shows("invited", deadline=60)
    await shows.press("enter", "y")
    await shows.shows("Enter send")
    await screen.shows("joined", deadline=60)
    await screen.say("found you")
    await shows.shows("found you")
