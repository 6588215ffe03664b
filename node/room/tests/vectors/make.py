"""Writes events.json: hashes, signatures and event IDs of all room versions as Synapse computes them, in full and redacted.

    python3 -m venv v && v/bin/pip install matrix-synapse==1.163.2 && v/bin/python make.py > events.json
"""

import json

from canonicaljson import encode_canonical_json
from signedjson.key import decode_signing_key_base64
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.crypto.event_signing import add_hashes_and_signatures, compute_event_reference_hash
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


def odd_contents():
    """Numbers that canonical JSON does not know, as versions 1 to 5 allow them."""
    yield "m.room.power_levels", "", {
        "users": {ALICE: 100.0, BOB: 50.57}, "users_default": "0", "ban": 5.114698e4, "kick": 1e16, "invite": 2**53,
        "events": {"m.room.name": "+0050", "m.room.topic": 1e-5},
    }
    yield "m.room.message", None, {
        "body": "x", "n": [1.5, [-0.0, {"a": 1e300, "b": 10**25}], -(2**63), 0.1, 5e-324, 1e15, 123456789012345.6],
    }


def made(name, kind, state_key, content, **others):
    old = name in ("1", "2")
    cited = ["$prev:example.org", {"sha256": IDS[0][1:]}] if old else IDS[0]
    event = {
        "type": kind, "sender": ALICE, "content": content, "depth": 12, "origin_server_ts": 1700000000123,
        "prev_events": [] if kind == "m.room.create" else [cited],
        "auth_events": [] if kind == "m.room.create" else [cited],
        "hashes": {}, "signatures": {}, "unsigned": {"age": 5},
    }
    event.update(others)
    if not (name == "12" and kind == "m.room.create"):
        event["room_id"] = "!" + IDS[1][1:] if name == "12" else "!room:example.org"
    if state_key is not None:
        event["state_key"] = state_key
    if kind == "m.room.redaction":
        event["redacts"] = "$target:example.org" if old else IDS[1]
    if old:
        event["event_id"] = "$" + kind + ":example.org"
    version = KNOWN_ROOM_VERSIONS[name]
    key = decode_signing_key_base64("ed25519", "k1", SEED)
    add_hashes_and_signatures(version, event, SERVER, key)
    made = make_event_from_dict(json.loads(json.dumps(event)), version)
    redacted = prune_event(made).get_dict()
    redacted.pop("unsigned", None)
    event.pop("unsigned")
    row = {"version": name, "event_id": made.event_id, "event": event, "redacted": redacted}
    row["reference_hash"] = encode_base64(compute_event_reference_hash(made)[1])
    if name == "12" and kind == "m.room.create":
        row["room_id"] = made.room_id
    return row


def main():
    versions = list(map(str, range(1, 13)))
    events = [made(name, *event) for name in versions for event in contents(name)]
    # Fields that redaction keeps in old versions, and one that none knows.
    extra = {"origin": SERVER, "membership": "join", "prev_state": [], "org.example": {"a": 1}}
    events += [made(name, "m.room.member", BOB, {"membership": "join"}, **extra) for name in versions]
    odd = [made(name, *event) for name in versions[:5] for event in odd_contents()]
    odd += [made(name, "m.room.message", None, {}, depth=2**63 - 1) for name in versions[:5]]
    for row in odd:
        for form in ("event", "redacted"):
            row[form] = encode_canonical_json(row[form]).decode()
    out = {"seed_byte": 7, "key_id": "ed25519:k1", "server": SERVER, "events": events, "odd_events": odd}
    print(json.dumps(out, ensure_ascii=False))


main()
