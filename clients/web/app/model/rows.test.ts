import { expect, test } from "vitest";
import { MatrixEvent } from "matrix-js-sdk";
import { kindOf } from "./kinds.ts";
import { rowsOf } from "./rows.ts";

const DAY = Date.UTC(2026, 4, 1, 12);
const event = (id: number, sender: string, ts: number, more: object = {}) =>
    new MatrixEvent({ event_id: `$${id}`, room_id: "!r", sender, origin_server_ts: ts, type: "m.room.message", content: { msgtype: "m.text", body: "x" }, ...more });

test("messages of one person within minutes stand together, and days part them", () => {
    const rows = rowsOf([event(1, "@a:b", DAY), event(2, "@a:b", DAY + 1000), event(3, "@c:b", DAY + 2000), event(4, "@c:b", DAY + 86_400_000)], null);
    expect(rows.map(({ kind }) => kind)).toEqual(["day", "message", "message", "message", "day", "message"]);
    expect(rows.filter((row) => row.kind === "message").map(({ first, last }) => [first, last])).toEqual([[true, false], [false, true], [true, true], [true, true]]);
});

test("the line of what is new stands behind the last that was read, and nowhere if that is the newest", () => {
    const events = [event(1, "@a:b", DAY), event(2, "@c:b", DAY + 1)];
    expect(rowsOf(events, "$1").map(({ kind }) => kind)).toEqual(["day", "message", "unread", "message"]);
    expect(rowsOf(events, "$2").map(({ kind }) => kind)).toEqual(["day", "message", "message"]);
});

test("rows that say the same are the same objects, so that nothing is drawn anew", () => {
    const events = [event(1, "@a:b", DAY), event(2, "@c:b", DAY + 1)];
    const before = rowsOf(events, null);
    const after = rowsOf([...events, event(3, "@c:b", DAY + 2)], null, before);
    expect(after[1]).toBe(before[1]);
    expect(after[2]).not.toBe(before[2]);
});

test("ten thousand messages become rows quickly", () => {
    const events = Array.from({ length: 10_000 }, (_, i) => event(i, `@${i % 7}:b`, DAY + i * 60_000));
    const begin = performance.now();
    rowsOf(events, null, rowsOf(events, null));
    expect(performance.now() - begin).toBeLessThan(500);
});

test("unknown messages have a place, reactions and edits have none, and neither has state that no one reads", () => {
    expect(kindOf(event(1, "@a:b", DAY, { type: "org.example.alien" }))).toBe("message");
    expect(kindOf(event(1, "@a:b", DAY, { type: "m.reaction" }))).toBe("hidden");
    expect(kindOf(event(1, "@a:b", DAY, { content: { msgtype: "m.text", body: "* y", "m.relates_to": { rel_type: "m.replace", event_id: "$0" } } }))).toBe("hidden");
    expect(kindOf(event(1, "@a:b", DAY, { type: "org.example.state", state_key: "" }))).toBe("hidden");
    expect(kindOf(event(1, "@a:b", DAY, { type: "m.room.name", state_key: "", content: { name: "x" } }))).toBe("notice");
});
