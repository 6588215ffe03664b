import { createRoot, createSignal } from "solid-js";
import { expect, test } from "vitest";
import { keyed } from "./keyed.ts";

test("an entry stays the object it was, with what is new of it", () => {
    createRoot((dispose) => {
        const [given, setGiven] = createSignal([{ id: "a", count: 1 }, { id: "b", count: 1 }]);
        const list = keyed("id", given);
        const [a, b] = list();
        setGiven([{ id: "c", count: 1 }, { id: "b", count: 1 }, { id: "a", count: 2 }]);
        expect(list().map(({ id, count }) => id + count)).toEqual(["c1", "b1", "a2"]);
        expect(list()[2]).toBe(a);
        expect(list()[1]).toBe(b);
        setGiven([]);
        expect(list()).toEqual([]);
        dispose();
    });
});
