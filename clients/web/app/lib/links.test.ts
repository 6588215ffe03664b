import { expect, test } from "vitest";
import { readMatrixLink, webLink } from "./links.ts";

test("users are read from bare IDs, matrix: URIs with a node's address, and matrix.to", () => {
    for (const link of ["@alice:example.org", "matrix:u/alice:example.org?action=chat&org.kith.address=%2Fip4%2F1.2.3.4", "https://matrix.to/#/%40alice%3Aexample.org"]) {
        expect(readMatrixLink(link)).toMatchObject({ kind: "user", id: "@alice:example.org" });
    }
});

test("a place in a room is read back from the link that is made of it", () => {
    const link = webLink("!room:example.org", "$event", ["example.org"]);
    expect(readMatrixLink(link)).toEqual({ kind: "room", id: "!room:example.org", event_id: "$event", via: ["example.org"] });
    expect(readMatrixLink("matrix:roomid/room:example.org/e/event?via=a.org")).toEqual({ kind: "room", id: "!room:example.org", event_id: "$event", via: ["a.org"] });
    expect(readMatrixLink("matrix:r/garden:example.org")).toMatchObject({ kind: "room", id: "#garden:example.org" });
});

test("rooms of version 12, whose IDs name no server, are read", () => {
    expect(readMatrixLink("!YrmMenpfIsWltyC0c5LL-rGF7Mu5ffD7AjLqU9a19cI")).toMatchObject({ kind: "room" });
});

test("what is no link is none", () => {
    for (const text of ["", "alice", "https://example.org", "javascript:alert(1)", "matrix:x/y", "@alice", `@${"a".repeat(3000)}:b`]) expect(readMatrixLink(text)).toBeNull();
});
