import { expect, test } from "vitest";
import { parseRoute, roomPath } from "./router.ts";

test("what is in the address is where one is", () => {
    expect(parseRoute("#/")).toEqual({ at: "home" });
    expect(parseRoute("#/setup/abc")).toEqual({ at: "setup", token: "abc" });
    expect(parseRoute(roomPath("!a:b"))).toEqual({ at: "room", room_id: "!a:b" });
    expect(parseRoute(roomPath("!a:b", "$e/1"))).toEqual({ at: "room", room_id: "!a:b", event_id: "$e/1" });
    expect(parseRoute(roomPath("!a:b", "thread", "$t"))).toEqual({ at: "room", room_id: "!a:b", panel: "thread", thread_id: "$t" });
    expect(parseRoute("#/public")).toEqual({ at: "public" });
    expect(parseRoute("#/settings/devices")).toEqual({ at: "settings", section: "devices" });
});

test("nonsense leads home", () => {
    for (const fragment of ["", "#", "#/room", "#/%E0%A4%A", "#/nowhere/x"]) expect(parseRoute(fragment)).toEqual({ at: "home" });
});
