"""A server of another make, for tests: a program of its own, run by the interpreter of Synapse's environment, whose parts sign events.

It joins rooms and says things there, which it has signed by nobody else; it is a policy server for rooms that name it, which signs all but spam;
and it keeps its files elsewhere. What it is to do it is told under `/test`.

    third_server.py NAME CERTIFICATES
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from signedjson.key import decode_signing_key_base64, encode_verify_key_base64, get_verify_key
from signedjson.sign import sign_json
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.crypto.event_signing import add_hashes_and_signatures, compute_event_signature
from synapse.events import make_event_from_dict
from unpaddedbase64 import encode_base64

# The same whenever it runs, so that it may be away for a while.
KEY = decode_signing_key_base64("ed25519", "third", encode_base64(bytes([3] * 32)))
POLICY_KEY = decode_signing_key_base64("ed25519", "policy_server", encode_base64(bytes([4] * 32)))
FILE = b"\x89PNG not really a picture" * 100


def key_id(key) -> str:
    return f"{key.alg}:{key.version}"


class Room:
    """What it knows of a room that it joined."""

    def __init__(self, room_id: str, version, join: dict, state: list[dict]):
        self.room_id, self.version, self.depth = room_id, version, join["depth"]
        self.join_id = self.id_of(join)
        self.heads = {self.join_id}
        self.levels = next(self.id_of(event) for event in state if event["type"] == "m.room.power_levels")
        self.create = next(self.id_of(event) for event in state if event["type"] == "m.room.create")
        # What came from others.
        self.received: list[dict] = []

    def id_of(self, event: dict) -> str:
        return make_event_from_dict(event, self.version).event_id

    def add(self, event: dict) -> None:
        """Takes an event as the latest."""
        event_id = self.id_of(event)
        self.depth = max(self.depth, event["depth"])
        self.heads = {head for head in self.heads if head not in event["prev_events"]} | {event_id}
        self.received.append({"event_id": event_id, **event})


class Third:
    """The server."""

    def __init__(self, name: str, certificates: Path):
        self.name, self.certificates = name, certificates
        self.rooms: dict[str, Room] = {}
        # Whom it was asked by to sign what.
        self.asked: list[dict] = []

    def ask(self, destination: str, method: str, uri: str, content=None) -> dict:
        """A signed request to another server."""
        request = {"method": method, "uri": uri, "origin": self.name, "destination": destination}
        signed = sign_json(request if content is None else {**request, "content": content}, self.name, KEY)
        signature = signed["signatures"][self.name][key_id(KEY)]
        header = f'X-Matrix origin="{self.name}",destination="{destination}",key="{key_id(KEY)}",sig="{signature}"'
        host, port = destination.rsplit(":", 1)
        trusted = ssl.create_default_context(cafile=self.certificates / "ca.pem")
        connection = http.client.HTTPSConnection(host, int(port), context=trusted, timeout=30)
        connection.request(
            method, uri, body=None if content is None else json.dumps(content),
            headers={"Authorization": header, "Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status == 200, (answer.status, text[:500])
        return json.loads(text)

    def signed(self, version, event: dict) -> dict:
        event = {"origin": self.name, "origin_server_ts": int(time.time() * 1000), **event}
        add_hashes_and_signatures(version, event, self.name, KEY)
        return event

    # --- what it is told to do

    def join(self, via: str, room_id: str) -> dict:
        user = f"@third:{self.name}"
        versions = "&".join(f"ver={version}" for version in KNOWN_ROOM_VERSIONS)
        proposal = self.ask(via, "GET", f"/_matrix/federation/v1/make_join/{quote(room_id)}/{quote(user)}?{versions}")
        version = KNOWN_ROOM_VERSIONS[proposal["room_version"]]
        template = {key: value for key, value in proposal["event"].items() if key not in ("hashes", "signatures", "origin_server_ts")}
        join = self.signed(version, template)
        join_id = make_event_from_dict(join, version).event_id
        answer = self.ask(via, "PUT", f"/_matrix/federation/v2/send_join/{quote(room_id)}/{quote(join_id)}", join)
        self.rooms[room_id] = Room(room_id, version, join, answer["state"])
        return {"user_id": user}

    def say(self, room_id: str, body: str, to: list[str]) -> dict:
        """A message that it sends to these servers as it is."""
        room = self.rooms[room_id]
        # In room version 12 the room's ID says which event made it, and no event cites that.
        cited = [room.levels, room.join_id] + ([room.create] if ":" in room_id else [])
        event = self.signed(room.version, {
            "type": "m.room.message", "room_id": room_id, "sender": f"@third:{self.name}", "depth": room.depth + 1,
            "prev_events": sorted(room.heads), "auth_events": cited, "content": {"msgtype": "m.text", "body": body},
        })
        event_id = room.id_of(event)
        transaction = {"origin": self.name, "origin_server_ts": int(time.time() * 1000), "pdus": [event], "edus": []}
        for server in to:
            answer = self.ask(server, "PUT", f"/_matrix/federation/v1/send/{quote(event_id, safe='')}", transaction)
            assert answer["pdus"] == {event_id: {}}, answer
        return {"event_id": event_id}

    # --- what servers ask of it

    def keys(self) -> dict:
        verify_keys = {key_id(KEY): {"key": encode_verify_key_base64(get_verify_key(KEY))}}
        valid_until = int(time.time() * 1000) + 86_400_000
        document = {"server_name": self.name, "valid_until_ts": valid_until, "verify_keys": verify_keys, "old_verify_keys": {}}
        return sign_json(document, self.name, KEY)

    def judge(self, event: dict, origin: str) -> tuple[int, dict]:
        room = self.rooms.get(event["room_id"])
        if room is None:
            return 404, {"errcode": "M_NOT_FOUND", "error": "no room of this policy server"}
        self.asked.append({"origin": origin, "event": event})
        if "spam" in str(event["content"].get("body")):
            return 400, {"errcode": "M_FORBIDDEN", "error": "this looks like spam"}
        signatures = compute_event_signature(room.version, event, self.name, POLICY_KEY)
        return 200, {self.name: {key_id(POLICY_KEY): signatures[self.name][key_id(POLICY_KEY)]}}

    def take(self, transaction: dict) -> dict:
        taken = {}
        for event in transaction["pdus"]:
            if room := self.rooms.get(event.get("room_id")):
                room.add(event)
                taken[room.id_of(event)] = {}
        return {"pdus": taken}


def handler(third: Third):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path.startswith("/_matrix/key/v2/server"):
                self.answer(200, third.keys())
            elif self.path.startswith("/_matrix/federation/v1/media/download/"):
                # The file is at another address, as servers do that keep their files with somebody else.
                location = f"https://{third.name}/moved/{self.path.rsplit('/', 1)[1].partition('?')[0]}"
                body = f"--x\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--x\r\nLocation: {location}\r\n\r\n\r\n--x--\r\n".encode()
                self.give(200, "multipart/mixed; boundary=x", body)
            elif self.path.startswith("/moved/"):
                # Nobody shows there who they are, and needs to.
                assert "Authorization" not in self.headers
                there = self.path == "/moved/picture"
                self.give(200 if there else 404, "image/png", FILE if there else b"")
            elif self.path == "/test/asked":
                self.answer(200, third.asked)
            elif self.path == "/test/received":
                self.answer(200, {room_id: room.received for room_id, room in third.rooms.items()})
            else:
                self.unknown()

        def do_PUT(self):
            body = self.body()
            if self.path.startswith("/_matrix/federation/v1/send/"):
                self.answer(200, third.take(body))
            else:
                self.unknown()

        def do_POST(self):
            body = self.body()
            if self.path == "/_matrix/policy/v1/sign":
                origin = self.headers["Authorization"].split('origin="', 1)[1].split('"', 1)[0]
                self.answer(*third.judge(body, origin))
            elif self.path in ("/test/join", "/test/say"):
                self.answer(200, getattr(third, self.path.removeprefix("/test/"))(**body))
            else:
                self.unknown()

        def body(self):
            return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def unknown(self):
            self.answer(404, {"errcode": "M_UNRECOGNIZED", "error": "not known here"})

        def answer(self, status: int, body) -> None:
            self.give(status, "application/json", json.dumps(body).encode())

        def give(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            # Who asked may be gone by now.
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def main() -> None:
    name, certificates = sys.argv[1], Path(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", int(name.rpartition(":")[2])), handler(Third(name, certificates)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    # The handshake is each connection's own: somebody who makes none keeps nobody waiting.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    public = encode_verify_key_base64(get_verify_key(POLICY_KEY))
    print(json.dumps({"policy_key": public, "file": FILE.hex()}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
