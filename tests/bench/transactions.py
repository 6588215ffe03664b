"""A server of another make that joins a room over HTTPS and sends events in transactions of 50, each when the last was answered.

Runs in Synapse's environment, whose parts sign the events. Prints `ready` when all are made, sends them when a line comes in, and prints what came of it.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from signedjson.key import encode_verify_key_base64, generate_signing_key, get_verify_key
from signedjson.sign import sign_json
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.crypto.event_signing import add_hashes_and_signatures
from synapse.events import make_event_from_dict

BATCH = 50
KEY = generate_signing_key("bench")


def key_server(name: str, certificates: Path) -> None:
    """Tells everyone the key, as `/_matrix/key/v2/server` does."""
    verify_keys = {f"{KEY.alg}:{KEY.version}": {"key": encode_verify_key_base64(get_verify_key(KEY))}}
    document = sign_json(
        {"server_name": name, "valid_until_ts": int(time.time() * 1000) + 86_400_000, "verify_keys": verify_keys, "old_verify_keys": {}}, name, KEY,
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(document if self.path.startswith("/_matrix/key/v2/server") else None)

        def do_PUT(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer({"pdus": {}} if "/send/" in self.path else None)

        def answer(self, body):
            text = json.dumps(body or {"errcode": "M_UNRECOGNIZED", "error": "not known here"}).encode()
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    server = ThreadingHTTPServer(("127.0.0.1", int(name.rpartition(":")[2])), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


class Peer:
    """Asks one server, over one connection."""

    def __init__(self, name: str, destination: str, certificates: Path):
        self.name, self.destination = name, destination
        host, port = destination.split(":")
        self.connection = http.client.HTTPSConnection(host, int(port), context=ssl.create_default_context(cafile=certificates / "ca.pem"))

    def header(self, method: str, uri: str, content=None) -> str:
        request = {"method": method, "uri": uri, "origin": self.name, "destination": self.destination}
        signed = sign_json(request if content is None else {**request, "content": content}, self.name, KEY)
        signature = signed["signatures"][self.name][f"{KEY.alg}:{KEY.version}"]
        return f'X-Matrix origin="{self.name}",destination="{self.destination}",key="{KEY.alg}:{KEY.version}",sig="{signature}"'

    def send(self, method: str, uri: str, header: str, body: bytes | None) -> dict:
        self.connection.request(method, uri, body=body, headers={"Authorization": header, "Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text[:500])
        return json.loads(text)

    def ask(self, method: str, uri: str, content=None) -> dict:
        return self.send(method, uri, self.header(method, uri, content), None if content is None else json.dumps(content).encode())


def main() -> None:
    name, destination, room, certificates, count = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5])
    key_server(name, certificates)
    peer, user = Peer(name, destination, certificates), f"@writer:{name}"
    proposal = peer.ask("GET", f"/_matrix/federation/v1/make_join/{quote(room)}/{quote(user)}?" + "&".join(f"ver={version}" for version in KNOWN_ROOM_VERSIONS))
    version = KNOWN_ROOM_VERSIONS[proposal["room_version"]]

    def signed(event: dict) -> tuple[str, dict]:
        event = {"origin": name, "origin_server_ts": int(time.time() * 1000), **event}
        add_hashes_and_signatures(version, event, name, KEY)
        return make_event_from_dict(event, version).event_id, event

    template = {key: value for key, value in proposal["event"].items() if key not in ("hashes", "signatures", "origin_server_ts")}
    join_id, join = signed(template)
    state = peer.ask("PUT", f"/_matrix/federation/v2/send_join/{quote(room)}/{quote(join_id)}", join)["state"]
    levels = next(make_event_from_dict(event, version).event_id for event in state if event["type"] == "m.room.power_levels")
    previous, depth, transactions = join_id, join["depth"], []
    for first in range(0, count, BATCH):
        pdus = []
        for number in range(first, min(first + BATCH, count)):
            depth += 1
            previous, event = signed({
                "type": "m.room.message", "room_id": room, "sender": user, "depth": depth, "prev_events": [previous], "auth_events": [levels, join_id],
                "content": {"msgtype": "m.text", "body": f"message {number}"},
            })
            pdus.append(event)
        content = {"origin": name, "origin_server_ts": int(time.time() * 1000), "pdus": pdus, "edus": []}
        uri = f"/_matrix/federation/v1/send/t{first}"
        transactions.append((uri, peer.header("PUT", uri, content), json.dumps(content).encode()))
    print("ready", flush=True)
    sys.stdin.readline()
    begin, accepted = time.monotonic(), 0
    for uri, header, body in transactions:
        results = peer.send("PUT", uri, header, body)["pdus"]
        accepted += sum(result == {} for result in results.values())
    print(json.dumps({"accepted": accepted, "seconds": time.monotonic() - begin}), flush=True)


if __name__ == "__main__":
    main()
