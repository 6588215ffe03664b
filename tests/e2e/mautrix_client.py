"""A person's client on mautrix for Python with encryption, the library that bridges are made of."""

from __future__ import annotations

import secrets

import aiohttp
from mautrix.api import Method, Path
from mautrix.client import Client as Library
from mautrix.crypto import OlmMachine, PgCryptoStateStore, PgCryptoStore
from mautrix.crypto.attachments import decrypt_attachment, encrypt_attachment
from mautrix.errors import DecryptionError
from mautrix.types import EventType, MediaMessageEventContent, Membership, MessageType, RoomCreatePreset, TextMessageEventContent, TrustState
from mautrix.util.async_db import Database

from client import PASSWORD, Message
from waiting import eventually


class MautrixClient:
    """One user's device. Make it with `register` or `login`."""

    library = "mautrix"

    def __init__(self, node, username: str):
        self.node = node
        self.username = username
        self.errors: list[str] = []
        self.session = aiohttp.ClientSession(connector=node.connector(), timeout=aiohttp.ClientTimeout(total=60))
        # As bridges do that keep everything in SQLite: one file, as a transaction on keys may ask about rooms.
        file = node.folder / f"mautrix-{username}-{secrets.token_hex(3)}.db"
        self.database = Database.create(f"sqlite:///{file}", upgrade_table=PgCryptoStore.upgrade_table)
        store, rooms = PgCryptoStore("", "pickle key", self.database), PgCryptoStateStore(self.database)
        self.client = Library(base_url=node.base_url, client_session=self.session, state_store=rooms, sync_store=store)
        self.crypto = OlmMachine(self.client, store, rooms)
        self.client.crypto = self.crypto
        self.client.add_event_handler(EventType.ROOM_MESSAGE, self._see)
        self.client.add_event_handler(EventType.ROOM_ENCRYPTED, self._keep)
        self.client.add_event_handler(EventType.ROOM_MEMBER, self._note_invite)
        self.seen: list = []
        self.shut: dict[str, object] = {}
        self.invites: set[str] = set()

    # --- account

    @classmethod
    async def register(cls, node, username: str) -> MautrixClient:
        auth = {"type": "m.login.dummy"}
        return await cls(node, username)._begin(Path.v3.register, {"username": username, "password": PASSWORD, "auth": auth})

    @classmethod
    async def login(cls, node, username: str) -> MautrixClient:
        identifier = {"type": "m.id.user", "user": username}
        body = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
        return await cls(node, username)._begin(Path.v3.login, body)

    async def _begin(self, path, body: dict) -> MautrixClient:
        try:
            # The library has no call to register, and its login wants to know the server's name before.
            answer = await self.client.api.request(Method.POST, path, body)
            self.user_id = self.client.mxid = answer["user_id"]
            self.device_id = self.client.device_id = answer["device_id"]
            self.access_token = self.client.api.token = answer["access_token"]
            await self.database.start()
            await PgCryptoStateStore.upgrade_table.upgrade(self.database)
            await self.crypto.load()
            await self.crypto.share_keys()
        except BaseException:
            await self.close()
            raise
        self.client.start(None)
        return self

    @property
    def fingerprint(self) -> str:
        return self.crypto.account.signing_key

    async def close(self) -> None:
        self.client.stop()
        await self.session.close()
        await self.database.stop()

    # --- syncing

    async def _see(self, event) -> None:
        self.seen.append(event)

    async def _keep(self, event) -> None:
        self.shut[event.event_id] = event

    async def _note_invite(self, event) -> None:
        if event.state_key == self.user_id and event.content.membership == Membership.INVITE:
            self.invites.add(event.room_id)

    # --- rooms

    async def create_room(self) -> str:
        encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        room_id = await self.client.create_room(preset=RoomCreatePreset.PRIVATE, initial_state=[encryption])
        await self._knows_encryption(room_id)
        return room_id

    async def _knows_encryption(self, room_id: str, deadline: float = 20) -> None:
        await eventually(lambda: self.client.state_store.is_encrypted(room_id), deadline, f"{self.user_id} knows {room_id}")

    async def invite(self, room_id: str, user_id: str) -> None:
        await self.client.invite_user(room_id, user_id)

    async def accept(self, room_id: str, deadline: float = 20) -> None:
        await eventually(lambda: room_id in self.invites, deadline, f"{self.user_id} is invited to {room_id}")
        await self.client.join_room_by_id(room_id)
        await self._knows_encryption(room_id, deadline)

    async def sees(self, room_id: str, other, deadline: float = 20) -> None:
        async def known():
            member = await self.client.state_store.get_member(room_id, other.user_id)
            return member and member.membership == Membership.JOIN and await self._device(other)
        await eventually(known, deadline, f"{self.user_id} knows {other.user_id} and their device")

    async def _device(self, other):
        device = await self.crypto.crypto_store.get_device(other.user_id, other.device_id)
        return device or await self.crypto.get_or_fetch_device(other.user_id, other.device_id)

    # --- messages

    async def send(self, room_id: str, body: str) -> str:
        return await self.client.send_message(room_id, TextMessageEventContent(msgtype=MessageType.TEXT, body=body))

    async def send_to_signed(self, room_id: str, body: str) -> str:
        """Sends a text whose keys go to devices alone that their owners have signed."""
        self.crypto.send_keys_min_trust = TrustState.CROSS_SIGNED_TOFU
        await self.crypto.crypto_store.remove_outbound_group_session(room_id)
        return await self.send(room_id, body)

    async def send_photo(self, room_id: str, data: bytes, name: str = "photo.jpg") -> str:
        ciphertext, file = encrypt_attachment(data)
        file.url = await self.client.upload_media(ciphertext, mime_type="application/octet-stream")
        return await self.client.send_message(room_id, MediaMessageEventContent(msgtype=MessageType.IMAGE, body=name, file=file))

    async def wait_for_message(self, room_id: str, body: str, deadline: float = 20) -> Message:
        async def found():
            # Keys may come after the messages they open.
            for event_id, event in list(self.shut.items()):
                try:
                    self.seen.append(await self.crypto.decrypt_megolm_event(event))
                    del self.shut[event_id]
                except DecryptionError:
                    pass
            return next((e for e in self.seen if e.room_id == room_id and e.content.body == body), None)
        event = await eventually(found, deadline, f"{self.user_id}: message {body!r} ({len(self.shut)} not decrypted)")
        return Message(event.event_id, event.sender, event.content.serialize(), str(event.type))

    async def fetch_photo(self, message: Message) -> bytes:
        file = message.content["file"]
        ciphertext = await self.client.download_media(file["url"])
        return decrypt_attachment(ciphertext, file["key"]["k"], file["hashes"]["sha256"], file["iv"])

    # --- trust

    async def set_up_recovery(self) -> str:
        return await self.crypto.generate_recovery_key()

    async def recover(self, recovery_key: str) -> None:
        await self.crypto.verify_with_recovery_key(recovery_key)

    async def device(self, other) -> dict:
        # Signatures come later than the device.
        devices = await self.crypto._fetch_keys([other.user_id], include_untracked=True)
        device = devices[other.user_id][other.device_id]
        trust = await self.crypto.resolve_trust(device)
        return {"fingerprint": device.signing_key, "signed_by_owner": trust >= TrustState.CROSS_SIGNED_TOFU}
