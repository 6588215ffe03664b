import { expect, test } from "vitest";
import { fitted, namedFor } from "./pictures.ts";

test("a file is named as its type has it", () => {
    expect(namedFor("harbour.png", "image/webp")).toBe("harbour.webp");
    expect(namedFor("harbour.JPEG", "image/jpeg")).toBe("harbour.JPEG");
    expect(namedFor("voice", "audio/webm")).toBe("voice.webm");
    expect(namedFor("v1.2 of it", "image/png")).toBe("v1.2 of it.png");
    expect(namedFor("moves.gif", "image/gif")).toBe("moves.gif");
});

test("a picture fits its frame and is never made larger", () => {
    expect(fitted(4000, 1000, 2048)).toEqual({ width: 2048, height: 512 });
    expect(fitted(100, 50, 2048)).toEqual({ width: 100, height: 50 });
    expect(fitted(100_000, 1, 640)).toEqual({ width: 640, height: 1 });
});
