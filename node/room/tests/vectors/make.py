"""Writes events.json: hashes, signatures and event IDs as Synapse computes them.

    python3 -m venv v && v/bin/pip install matrix-synapse==1.163.2 && v/bin/python make.py > events.json
"""

import json

from signedjson.key import decode_signing_key_base64
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.crypto.event_signing import add_hashes_and_signatures
from synapse.events import make_event_from_dict
from synapse.events.utils import prune_event
from unpaddedbase64 import encode_base64

SEED = encode_base64(bytes([7] * 32))
SERVER = "example.org"
ALICE, BOB = "@alice:example.org", "@bob:example.org"
IDS = ["$aSmZ2mHJVLSyzqDjKDNFsmgnMUNEiZTG8r0Fs6zfQlE", "$6sPzG_jVZvsKmYqRMCxTHRHMbNYmAU9VQQsLZgyKtHE"]


def contents(version):
    yield "m.room.create", "", {"room_version": version, "creator": ALICE, "m.federate": True, "type": "m.space"}
    yield "m.room.member", ALICE, {
        "membership": "join", "displayname": "Ålice \u65e5\u672c \U0001f600", "avatar_url": None,
        "join_authorised_via_users_server": BOB,
    }
    yield "m.room.member", BOB, {
        "membership": "invite",
        "third_party_invite": {"display_name": "bob", "signed": {"mxid": BOB, "token": "t", "signatures": {}}},
    }
    yield "m.room.power_levels", "", {
        "users": {ALICE: 100}, "users_default": 0, "events": {"m.room.name": 50}, "invite": 1, "ban": 2, "kick": 3,
        "redact": 4, "notifications": {"room": 20},
    }
    yield "m.room.join_rules", "", {
        "join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": "!x:y"}], "other": 1,
    }
    yield "m.room.history_visibility", "", {"history_visibility": "joined", "extra": [1, -2, 9007199254740991]}
    yield "m.room.aliases", SERVER, {"aliases": ["#a:example.org"]}
    yield "m.room.message", None, {"msgtype": "m.text", "body": 'quote " backslash \\ newline \n del \x7f nul \x01 /'}
    yield "m.room.redaction", None, {"redacts": IDS[0], "reason": "spam"}
    yield "m.room.server_acl", "", {"allow": ["*"], "deny": [], "allow_ip_literals": False}


def main():
    out = []
    key = decode_signing_key_base64("ed25519", "k1", SEED)
    for name in map(str, range(3, 13)):
        version = KNOWN_ROOM_VERSIONS[name]
        for kind, state_key, content in contents(name):
            event = {
                "type": kind, "sender": ALICE, "content": content, "depth": 12, "origin_server_ts": 1700000000123,
                "prev_events": [] if kind == "m.room.create" else [IDS[0]],
                "auth_events": [] if kind == "m.room.create" else [IDS[0]],
                "hashes": {}, "signatures": {}, "unsigned": {"age": 5},
            }
            if not (name == "12" and kind == "m.room.create"):
                event["room_id"] = "!" + IDS[1][1:] if name == "12" else "!room:example.org"
            if state_key is not None:
                event["state_key"] = state_key
            if kind == "m.room.redaction":
                event["redacts"] = IDS[1]
            add_hashes_and_signatures(version, event, SERVER, key)
            made = make_event_from_dict(json.loads(json.dumps(event)), version)
            redacted = prune_event(made).get_dict()
            redacted.pop("unsigned", None)
            event.pop("unsigned")
            row = {"version": name, "event_id": made.event_id, "event": event, "redacted": redacted}
            if name == "12" and kind == "m.room.create":
                row["room_id"] = made.room_id
            out.append(row)
    print(json.dumps({"seed_byte": 7, "key_id": "ed25519:k1", "server": SERVER, "events": out}, ensure_ascii=False))


main()
