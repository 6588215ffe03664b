"""Client libraries that other people's clients are made of, all with one face (`driver.Driver` says what each call does)."""

from __future__ import annotations

from client import Client
from driver import JsClient, RustClient
from mautrix_client import MautrixClient
from waiting import eventually


class NioClient(Client):
    """matrix-nio, under the names that the drivers have."""

    library = "nio"

    @property
    def device_id(self) -> str:
        return self.nio.device_id

    @property
    def access_token(self) -> str:
        return self.nio.access_token

    @property
    def fingerprint(self) -> str:
        return self.nio.olm.account.identity_keys["ed25519"]

    async def sees(self, room_id: str, other, deadline: float = 20) -> None:
        await self.sees_member(room_id, other.user_id, deadline)
        await self.wait_for(lambda: self._device(other), deadline, f"knows {other.device_id}")

    def _device(self, other):
        devices = self.nio.device_store.active_user_devices(other.user_id)
        return next((device for device in devices if device.id == other.device_id), None)

    async def device(self, other) -> dict:
        device = self._device(other)
        return {"fingerprint": device.ed25519, "verified": device.verified}

    async def trust(self, other) -> None:
        self.nio.verify_device(self._device(other))

    async def send_to_verified(self, room_id: str, body: str) -> str:
        """Sends a text, and fails if there are devices in the room that are not verified."""
        content = {"msgtype": "m.text", "body": body}
        response = await self.nio.room_send(room_id, "m.room.message", content, ignore_unverified_devices=False)
        return self._checked(response).event_id


LIBRARIES = {one.library: one for one in (NioClient, JsClient, RustClient, MautrixClient)}

# What a library can do beside rooms, messages and photos, by its own code (nio 0.26, matrix-js-sdk 43, matrix-sdk 0.18,
# mautrix 0.21); what is missing in a row is missing in the library:
# - nio has neither cross-signing nor key backup. It compares short strings with nio alone: it commits to its key in hexadecimal
#   where the specification wants base64, and makes the emoji of other bits.
# - mautrix has no comparison of short strings and no key backup, and forgets which fingerprint was trusted as soon as it fetches
#   a user's devices again. It cross-signs its own device, keeps that in secret storage, and heeds the signatures of others.
# - matrix-sdk decides once, when it is made, whom it sends to.
ABILITIES = {
    "nio": {"trusts fingerprints", "sends to verified devices only"},
    "js": {"trusts fingerprints", "sends to verified devices only", "short strings", "cross-signing", "key backup"},
    "rust": {"trusts fingerprints", "short strings", "cross-signing", "key backup"},
    "mautrix": {"cross-signing"},
}


def able(*abilities: str) -> list[str]:
    """The libraries that can do all of this."""
    return [library for library, has in ABILITIES.items() if has >= set(abilities)]


async def register(lan, library: str, node, name: str):
    """A person with a new account, on this library."""
    person = await LIBRARIES[library].register(node, name)
    lan.clients.append(person)
    return person


async def login(lan, library: str, node, name: str):
    """A new device of an account, on this library."""
    person = await LIBRARIES[library].login(node, name)
    lan.clients.append(person)
    return person


async def room_of(host, guest) -> str:
    """An encrypted room of two, who know each other's devices."""
    room_id = await host.create_room()

    async def invited():
        # Until the nodes have found each other.
        await host.invite(room_id, guest.user_id)
        return True
    await eventually(invited, 20, f"{host.user_id} invites {guest.user_id}", every=0.1)
    await guest.accept(room_id)
    await host.sees(room_id, guest)
    await guest.sees(room_id, host)
    return room_id


async def ask(person, path: str) -> dict:
    """What the person's node answers, past the library."""
    headers = {"Authorization": f"Bearer {person.access_token}"}
    async with person.node.http() as http, http.get(path, headers=headers) as response:
        assert response.status == 200, await response.text()
        return await response.json()
