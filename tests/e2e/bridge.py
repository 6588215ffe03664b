"""A bridge to an imaginary network, on mautrix as the bridges to WhatsApp, Signal and Slack: `bridge.py settings.json`.

Its ghosts are `@echo_<name>`. Who is invited as a ghost gets a portal: the bridge's bot comes along for encryption, and what is
said there comes back from the ghost. Asked for `#echo_<name>`, it makes a portal with that alias. What reached it, in order, is
written to `heard.jsonl`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from mautrix.appservice import AppService
from mautrix.appservice.state_store.asyncpg import PgASStateStore
from mautrix.bridge.e2ee import EncryptionManager
from mautrix.types import EventType, Membership, MessageType, RoomCreatePreset, TextMessageEventContent
from mautrix.util.async_db import Database

PREFIX = "echo_"


class Portals(PgASStateStore):
    """Rooms, and which of them are portals: the manager of encryption asks for these as bridges keep them, in a table."""

    async def get_portal(self, room_id: str):
        return SimpleNamespace(encrypted=bool(await self.is_encrypted(room_id)))


class Bridge:
    name = "echo"
    loop = None

    def __init__(self, settings: dict):
        self.settings = settings
        folder = Path(settings["folder"])
        self.heard = open(folder / "heard.jsonl", "a")
        self.url = f"sqlite:///{folder}/bridge.db"
        self.database = Database.create(self.url, upgrade_table=PgASStateStore.upgrade_table)
        self.state_store = Portals(self.database)
        self.get_portal = self.state_store.get_portal
        self.az = AppService(
            server=settings["homeserver"], domain=settings["domain"], id=settings["id"],
            as_token=settings["as_token"], hs_token=settings["hs_token"], bot_localpart=settings["sender_localpart"],
            state_store=self.state_store, ephemeral_events=True, encryption_events=True, default_http_retry_count=10,
            query_user=self.query_user, query_alias=self.query_alias,
        )
        # One event after the other, as they come; what comes before all is ready waits, and its transaction with it.
        self.az.synchronous_handlers = True
        self.az.matrix_event_handler(self.handle)
        self.ready = asyncio.Event()
        self.config = {
            "bridge.encryption.verification_levels": {"send": "unverified", "share": "unverified", "receive": "unverified"},
            "bridge.encryption.allow_key_sharing": False,
            "bridge.encryption.appservice": not settings["syncs"],
            "bridge.encryption.msc4190": True,
            "bridge.encryption.self_sign": True,
            "bridge.encryption.delete_keys": None,
            "bridge.encryption.rotation.disable_device_change_key_rotation": False,
        }

    async def run(self) -> None:
        await self.database.start()
        # What asks who shares an encrypted room wants to see the bridge's table of portals.
        await self.database.execute("CREATE VIEW IF NOT EXISTS portal AS SELECT room_id AS mxid, is_encrypted AS encrypted FROM mx_room_state")
        self.e2ee = EncryptionManager(self, self.settings["homeserver"], f"@{PREFIX}", f":{self.az.domain}", self.url)
        await self.az.start("127.0.0.1", self.settings["port"])
        await self.az.intent.ensure_registered()
        await self.e2ee.start()
        self.ready.set()
        self.say(ready=True, ping=await self.az.ping_self(), device=self.e2ee.client.device_id)
        await asyncio.Event().wait()

    def say(self, **what) -> None:
        self.heard.write(json.dumps(what) + "\n")
        self.heard.flush()

    def ghost(self, user_id: str):
        return self.az.intent.user(user_id)

    def is_ghost(self, user_id: str) -> bool:
        return user_id.startswith(f"@{PREFIX}") and user_id.endswith(f":{self.az.domain}")

    # --- asked by the node

    async def query_user(self, user_id: str):
        self.say(asked=user_id)
        await self.ghost(user_id).ensure_registered()
        return {}

    async def query_alias(self, alias: str):
        self.say(asked=alias)
        localpart = alias.removeprefix("#").split(":")[0]
        ghost = self.ghost(f"@{localpart}:{self.az.domain}")
        await ghost.ensure_registered()
        room_id = await self.az.intent.create_room(alias_localpart=localpart, preset=RoomCreatePreset.PUBLIC, name=localpart)
        await ghost.ensure_joined(room_id)
        return {"room_id": room_id}

    # --- told by the node

    async def handle(self, event) -> None:
        await self.ready.wait()
        if event.type == EventType.ROOM_MEMBER and event.content.membership == Membership.INVITE and self.is_ghost(event.state_key):
            await self.enter(event.room_id, event.state_key)
        elif event.type in (EventType.ROOM_MESSAGE, EventType.ROOM_ENCRYPTED) and not self.is_ours(event.sender):
            encrypted = event.type == EventType.ROOM_ENCRYPTED
            if encrypted:
                event = await self.e2ee.decrypt(event, wait_session_timeout=20)
            self.say(event_id=event.event_id, room_id=event.room_id, sender=event.sender, body=event.content.body, encrypted=encrypted)
            await self.answer(event.room_id, event.content.body, encrypted)

    def is_ours(self, user_id: str) -> bool:
        return user_id == self.az.bot_mxid or self.is_ghost(user_id)

    async def enter(self, room_id: str, ghost_id: str) -> None:
        ghost = self.ghost(ghost_id)
        await ghost.ensure_joined(room_id)
        # The bot's device reads and writes for all ghosts.
        await ghost.invite_user(room_id, self.az.bot_mxid)
        await self.az.intent.ensure_joined(room_id)
        state = await self.az.intent.get_state(room_id)
        self.say(portal=room_id, ghost=ghost_id, events=len(state))

    async def answer(self, room_id: str, body: str, encrypted: bool) -> None:
        members = await self.az.intent.get_room_members(room_id)
        ghost = self.ghost(next(user for user in members if self.is_ghost(user)))
        content = TextMessageEventContent(msgtype=MessageType.TEXT, body=f"echo: {body}")
        kind = EventType.ROOM_MESSAGE
        if encrypted:
            kind, content = await self.e2ee.encrypt(room_id, kind, content)
        await ghost.send_message_event(room_id, kind, content)


async def main(settings: dict) -> None:
    try:
        await Bridge(settings).run()
    except Exception:
        # The database's thread would keep the process.
        logging.exception("the bridge ends")
        os._exit(1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("aiosqlite").setLevel(logging.INFO)
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
