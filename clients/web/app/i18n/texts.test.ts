import { expect, test } from "vitest";
import { de } from "./de.ts";
import { en } from "./en.ts";
import { fill } from "./index.ts";

const values = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(([value]) => value).sort();

test("each language has the same texts with the same values in them", () => {
    expect(Object.keys(de).sort()).toEqual(Object.keys(en).sort());
    for (const key of Object.keys(en) as (keyof typeof en)[]) {
        expect(values(de[key]), key).toEqual(values(en[key]));
        expect(de[key].trim(), key).not.toBe("");
    }
});

test("what strangers write is put in once, and never read as a place for another value", () => {
    expect(fill("{name} invited {target}", { name: "{target}", target: "Bob" })).toBe("{target} invited Bob");
});
