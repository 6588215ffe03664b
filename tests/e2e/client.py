"""A person's Matrix client: matrix-nio with encryption, syncing in the background, recording what it sees."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp
import nio
import nio.schemas
from nio.crypto.attachments import decrypt_attachment, encrypt_attachment

from waiting import Late, eventually

PASSWORD = "correct horse battery staple"


def _accept_room_ids_without_a_domain() -> None:
    """Room ids of room version 12 are `!hash`; nio's patterns want a colon, and fill defaults only where they match."""
    rooms = nio.schemas.Schemas.sync["properties"]["rooms"]["properties"]
    for section in rooms.values():
        patterns = section.get("patternProperties", {})
        for pattern in [p for p in patterns if p == nio.schemas.RoomRegex]:
            patterns["^!.+$"] = patterns.pop(pattern)


_accept_room_ids_without_a_domain()


class MatrixError(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, body: dict):
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.code = body.get("errcode")


@dataclass
class Message:
    """An event as a person sees it: decrypted where it was encrypted."""

    event_id: str
    sender: str
    content: dict
    type: str
    received: float = field(default_factory=time.monotonic)

    @property
    def body(self) -> str | None:
        return self.content.get("body")


class Client:
    """One user's device on a node. Make it with `Client.register` or `Client.login`."""

    def __init__(self, node, username: str):
        self.node = node
        self.username = username
        config = nio.AsyncClientConfig(
            encryption_enabled=True, store_name="client.db",
            # Like any client on a device whose server restarts, it tries again; the tests' deadlines end it.
            backoff_factor=0.01, max_timeout_retry_wait_time=0.1, request_timeout=30, max_limit_exceeded=0,
        )
        self.store = tempfile.mkdtemp(prefix="client-", dir=node.folder)
        self.nio = nio.AsyncClient(node.base_url, username, device_id="", store_path=self.store, config=config)
        # nio makes its session itself unless it finds one: this one connects from the node's host.
        self.nio.client_session = aiohttp.ClientSession(
            connector=node.connector(), timeout=aiohttp.ClientTimeout(total=60)
        )
        self.seen: dict[str, list[Message]] = {}
        self.left: set[str] = set()
        self.undecrypted: dict[str, nio.MegolmEvent] = {}
        self.errors: list[str] = []
        self._news = asyncio.Condition()
        self._task: asyncio.Task | None = None

    # --- account

    @classmethod
    async def register(cls, node, username: str, sync: bool = True) -> Client:
        """Makes an account and keeps syncing."""
        return await cls(node, username)._begin(sync, lambda nio: nio.register(username, PASSWORD, "test device"))

    @classmethod
    async def login(cls, node, username: str, sync: bool = True) -> Client:
        """Logs in as a new device of an existing account and keeps syncing."""
        return await cls(node, username)._begin(sync, lambda nio: nio.login(PASSWORD, "another test device"))

    async def _begin(self, sync: bool, enter) -> Client:
        try:
            self._checked(await enter(self.nio))
            if self.nio.should_upload_keys:
                self._checked(await self.nio.keys_upload())
        except BaseException:
            await self.close()
            raise
        if sync:
            self.resume()
        return self

    @property
    def user_id(self) -> str:
        return self.nio.user_id

    @property
    def server_name(self) -> str:
        return self.user_id.split(":", 1)[1]

    def resume(self) -> None:
        """Starts syncing."""
        self._task = asyncio.create_task(self._sync())

    async def pause(self) -> None:
        """Stops syncing."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def close(self) -> None:
        """Stops syncing and lets go of the connections."""
        await self.pause()
        await self.nio.close()

    def _checked(self, response):
        if isinstance(response, nio.ErrorResponse):
            status = response.transport_response.status if response.transport_response else 0
            raise MatrixError(status, {"errcode": response.status_code, "error": response.message})
        return response

    # --- syncing

    async def _sync(self) -> None:
        room_filter = {"room": {"timeline": {"limit": 100}}}
        while True:
            try:
                response = self._checked(await self.nio.sync(timeout=20_000, sync_filter=room_filter))
                await self._keep_keys()
                await self._record(response)
            except asyncio.CancelledError:
                raise
            except (MatrixError, aiohttp.ClientError, TimeoutError, OSError) as error:
                self.errors.append(f"{time.monotonic():.3f} {error!r}")
                await asyncio.sleep(0.05)
            except BaseException as error:
                self.errors.append(f"{time.monotonic():.3f} the sync loop broke: {error!r}")
                raise

    async def _keep_keys(self) -> None:
        await self.nio.send_to_device_messages()
        if self.nio.should_upload_keys:
            await self.nio.keys_upload()
        if self.nio.should_query_keys:
            await self.nio.keys_query()
        if self.nio.should_claim_keys:
            await self.nio.keys_claim(self.nio.get_users_for_key_claiming())

    async def _record(self, response: nio.SyncResponse) -> None:
        for room_id, room in response.rooms.join.items():
            self.left.discard(room_id)
            if room.timeline.limited and room_id in self.seen:
                await self._see_what_was_left_out(room_id, room.timeline.prev_batch)
            for event in room.timeline.events:
                self._see(room_id, event)
        # nio itself keeps rooms that one has left.
        self.left.update(response.rooms.leave)
        # Keys may come after the messages they open.
        for event_id, event in list(self.undecrypted.items()):
            if opened := self._decrypt(event):
                del self.undecrypted[event_id]
                self._see(event.room_id, opened)
        async with self._news:
            self._news.notify_all()

    async def _see_what_was_left_out(self, room_id: str, prev_batch: str) -> None:
        """A sync tells the latest of much. As a client does that shows the whole conversation, scrolls back to what it knew."""
        known = {message.event_id for message in self.seen[room_id]} | set(self.undecrypted)
        missed: list[dict] = []
        token = prev_batch
        while token:
            query = {"dir": "b", "limit": "100", "from": token}
            page = await self.request("GET", f"/_matrix/client/v3/rooms/{quote(room_id)}/messages", query=query)
            new = [event for event in page["chunk"] if event["event_id"] not in known]
            missed += new
            # Events of others may stand among what is known: on until a whole page is.
            token = page.get("end") if new else None
        for source in reversed(missed):
            event = nio.Event.parse_encrypted_event({**source, "room_id": room_id}) if source["type"] == "m.room.encrypted" else None
            opened = self._decrypt(event) if isinstance(event, nio.MegolmEvent) else nio.Event.parse_event(source)
            self._see(room_id, opened or event)

    def _decrypt(self, event: nio.MegolmEvent):
        try:
            return self.nio.decrypt_event(event)
        except nio.EncryptionError:
            return None

    def _see(self, room_id: str, event) -> None:
        if isinstance(event, nio.MegolmEvent):
            self.undecrypted[event.event_id] = event
            return
        source = event.source
        self.seen.setdefault(room_id, []).append(
            Message(event.event_id, event.sender, source.get("content", {}), source.get("type", ""))
        )

    async def wait_for(self, condition, deadline: float, what: str):
        """Waits until `condition()` is true, looking again after each sync. Returns its value."""
        end = time.monotonic() + deadline
        async with self._news:
            while not (value := condition()):
                if self._task and self._task.done():
                    raise AssertionError(f"{self.user_id}'s sync ended: {self.errors[-3:]}")
                try:
                    await asyncio.wait_for(self._news.wait(), max(0.001, end - time.monotonic()))
                except (TimeoutError, asyncio.TimeoutError):
                    raise Late(f"{self.user_id}: not within {deadline} s: {what} (last errors: {self.errors[-3:]})") from None
            return value

    async def wait_for_message(self, room_id: str, body: str, deadline: float = 20) -> Message:
        """Waits until a message with this body was received and decrypted."""
        try:
            return await self.wait_for(
                lambda: next((m for m in self.seen.get(room_id, []) if m.body == body), None), deadline, f"message {body!r}"
            )
        except Late as late:
            last = [m.body or m.type for m in self.seen.get(room_id, [])[-3:]]
            raise Late(f"{late}; {len(self.undecrypted)} not decrypted; the last seen: {last}") from None

    # --- rooms

    async def create_room(self, encrypted: bool = True, invite: list[str] = [], **options) -> str:
        """Creates a private room and waits until the client knows it."""
        initial_state = []
        if encrypted:
            initial_state.append({
                "type": "m.room.encryption", "state_key": "",
                # One session for the whole test, so that what is tested is delivery and not nio's rotation.
                "content": {"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_msgs": 100_000},
            })
        response = await self.request(
            "POST", "/_matrix/client/v3/createRoom",
            {"preset": "private_chat", "initial_state": initial_state, "invite": invite, **options},
        )
        room_id = response["room_id"]
        await self.knows(room_id, encrypted)
        return room_id

    async def knows(self, room_id: str, encrypted: bool = True, deadline: float = 20) -> None:
        """Waits until the client is in the room as far as it knows."""
        await self.wait_for(
            lambda: room_id in self.nio.rooms and (self.nio.rooms[room_id].encrypted or not encrypted),
            deadline, f"knows room {room_id}",
        )

    async def invite(self, room_id: str, user_id: str, deadline: float = 20) -> None:
        """Invites someone, trying again while their node cannot be reached yet."""
        async def attempt():
            try:
                await self.request("POST", f"/_matrix/client/v3/rooms/{quote(room_id)}/invite", {"user_id": user_id})
            except MatrixError as error:
                # The first attempt may have been answered late and taken effect.
                if "already" not in str(error):
                    raise
            return True
        await eventually(attempt, deadline, f"{self.user_id} invites {user_id}", every=0.05)

    async def accept(self, room_id: str, deadline: float = 20, encrypted: bool = True) -> None:
        """Waits for an invitation and accepts it."""
        await self.wait_for(lambda: room_id in self.nio.invited_rooms, deadline, f"is invited to {room_id}")
        await self.join(room_id, deadline)
        await self.knows(room_id, encrypted, deadline)

    async def join(self, room: str, deadline: float = 20) -> str:
        """Joins, trying again while the other node cannot be reached."""
        async def attempt():
            return (await self.request("POST", f"/_matrix/client/v3/join/{quote(room)}", {}))["room_id"]
        return await eventually(attempt, deadline, f"{self.user_id} joins {room}", every=0.05)

    async def sees_member(self, room_id: str, user_id: str, deadline: float = 20) -> None:
        """Waits until the client knows a member and that member's devices, so that it encrypts for them."""
        def known():
            room = self.nio.rooms.get(room_id)
            joined = room and user_id in room.users and user_id not in room.invited_users
            return joined and list(self.nio.device_store.active_user_devices(user_id))
        await self.wait_for(known, deadline, f"knows {user_id} and their devices")

    async def state(self, room_id: str) -> dict[tuple[str, str], str]:
        """The room's current state as the node tells it: (type, state key) to event id."""
        events = await self.request("GET", f"/_matrix/client/v3/rooms/{quote(room_id)}/state")
        return {(event["type"], event["state_key"]): event["event_id"] for event in events}

    # --- messages

    async def send(self, room_id: str, body: str, transaction: str | None = None) -> str:
        """Sends a text (encrypted in an encrypted room) and returns the acknowledged event id."""
        return await self.send_content(room_id, {"msgtype": "m.text", "body": body}, transaction)

    async def send_content(self, room_id: str, content: dict, transaction: str | None = None) -> str:
        """Sends a message event and returns the acknowledged event id."""
        transaction = transaction or str(uuid.uuid4())
        while True:
            try:
                response = await self.nio.room_send(
                    room_id, "m.room.message", content, tx_id=transaction, ignore_unverified_devices=True
                )
                return self._checked(response).event_id
            except aiohttp.ClientPayloadError:
                # The server died while it answered: like the refused connections that nio itself tries again.
                await asyncio.sleep(0.01)

    async def send_photo(self, room_id: str, data: bytes, name: str = "photo.jpg") -> str:
        """Encrypts and uploads a photo, and sends it."""
        ciphertext, keys = encrypt_attachment(data)
        upload = await self.request(
            "POST", "/_matrix/media/v3/upload", data=ciphertext, content_type="application/octet-stream"
        )
        file = {**keys, "url": upload["content_uri"], "mimetype": "image/jpeg"}
        info = {"size": len(data), "mimetype": "image/jpeg", "w": 1, "h": 1}
        return await self.send_content(room_id, {"msgtype": "m.image", "body": name, "file": file, "info": info})

    async def fetch_photo(self, message: Message, deadline: float = 30) -> bytes:
        """Downloads and decrypts the photo of a message, through authenticated media."""
        file = message.content["file"]
        server, media_id = file["url"].removeprefix("mxc://").split("/")
        path = f"/_matrix/client/v1/media/download/{quote(server)}/{quote(media_id)}"
        ciphertext = await asyncio.wait_for(self.request("GET", path, raw=True), deadline)
        return decrypt_attachment(ciphertext, file["key"]["k"], file["hashes"]["sha256"], file["iv"])

    async def history(self, room_id: str, pages: int | None = None) -> list[Message]:
        """The timeline by `/messages`, whole or its newest pages of 100, oldest first, decrypted where keys are known."""
        events: list[dict] = []
        token = None
        for _ in itertools.count() if pages is None else range(pages):
            query = {"dir": "b", "limit": "100", **({"from": token} if token else {})}
            page = await self.request("GET", f"/_matrix/client/v3/rooms/{quote(room_id)}/messages", query=query)
            events += page["chunk"]
            token = page.get("end")
            if not token:
                break
        return [self._opened(room_id, event) for event in reversed(events)]

    def _opened(self, room_id: str, source: dict) -> Message:
        if source["type"] == "m.room.encrypted":
            event = nio.Event.parse_encrypted_event({**source, "room_id": room_id})
            if isinstance(event, nio.MegolmEvent) and (opened := self._decrypt(event)):
                return Message(source["event_id"], source["sender"], opened.source["content"], opened.source["type"])
        return Message(source["event_id"], source["sender"], source["content"], source["type"])

    # --- anything else

    async def request(self, method: str, path: str, body=None, *, query=None, data: bytes | None = None,
                      content_type: str = "application/json", raw: bool = False):
        """One request with the user's token. Answers of 400 and above are raised as `MatrixError`."""
        payload = data if data is not None else (json.dumps(body) if body is not None else None)
        headers = {"Authorization": f"Bearer {self.nio.access_token}", "Content-Type": content_type}
        async with self.nio.client_session.request(
            method, self.node.base_url + path, params=query, data=payload, headers=headers
        ) as response:
            content = await response.read()
            if response.status >= 400:
                try:
                    answer = json.loads(content)
                except ValueError:
                    answer = {"errcode": None, "error": content[:200]}
                raise MatrixError(response.status, answer)
            return content if raw else json.loads(content)
