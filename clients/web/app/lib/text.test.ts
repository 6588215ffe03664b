import { expect, test } from "vitest";
import { cut, linked, MAX_SHOWN, onlyEmoji, withoutFallback } from "./text.ts";

test("an endless body is cut, an ordinary one is not", () => {
    expect(cut("hello")).toEqual({ text: "hello", more: false });
    expect(cut("x".repeat(1_000_000))).toMatchObject({ more: true });
    expect(cut("x".repeat(1_000_000)).text).toHaveLength(MAX_SHOWN);
    expect(cut("\n".repeat(5000)).more).toBe(true);
    expect(cut("e" + "\u0301".repeat(3000)).text.length).toBeLessThan(20);
});

test("links are found, without the punctuation behind them, and scripts are no links", () => {
    expect(linked("see https://example.org/a?b=c, ok")).toEqual([{ text: "see " }, { text: "https://example.org/a?b=c", href: "https://example.org/a?b=c" }, { text: ", ok" }]);
    expect(linked("javascript:alert(1) data:text/html,x")).toEqual([{ text: "javascript:alert(1) data:text/html,x" }]);
});

test("the quoted lines of older clients are left out", () => {
    expect(withoutFallback("> <@a:b> hello\n> there\n\nyes")).toBe("yes");
    expect(withoutFallback("no quote")).toBe("no quote");
});

test("a few emoji alone are large, digits and words are not", () => {
    expect(onlyEmoji("🎉🎉")).toBe(true);
    expect(onlyEmoji("👩🏽‍🚀")).toBe(true);
    expect(onlyEmoji("1234")).toBe(false);
    expect(onlyEmoji("ok 🎉")).toBe(false);
});
