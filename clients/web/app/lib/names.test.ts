import { expect, test } from "vitest";
import { colourOf, initials, localpart, safeName, serverOf, shortServer, shortUser, slug } from "./names.ts";

const KEY = "k3ohjuw3gvon3djv2rzwxc5p4lqti22oy67ca24mj2nyhziezira";

test("a user ID falls into its two parts, also where the server has a port", () => {
    expect(localpart("@alice:example.org:8448")).toBe("alice");
    expect(serverOf("@alice:example.org:8448")).toBe("example.org:8448");
});

test("a server that is named by its key is cut to its ends, with or without a zone, and no other is", () => {
    expect(shortServer(KEY)).toBe("k3ohju…zira");
    expect(shortServer(`${KEY}.mesh.example.org`)).toBe("k3ohju…zira.mesh.example.org");
    expect(shortServer("matrix.example.org")).toBe("matrix.example.org");
    expect(shortUser(`@a:${KEY}`)).toBe("@a:k3ohju…zira");
});

test("the localpart that a name suggests is spelled with what a localpart may hold", () => {
    expect(slug("Jürgen Groß")).toBe("juergen-gross");
    expect(slug("Ålice O'Hara")).toBe("alice-o-hara");
    expect(slug("  李小龍 ")).toBe("");
});

test("a name that strangers chose loses what would turn, hide or stretch the text around it", () => {
    expect(safeName("evil\u202egnp.exe")).toBe("evilgnp.exe");
    expect(safeName("a\u0000b\nc")).toBe("abc");
    expect(safeName("x".repeat(500))).toHaveLength(101);
});

test("letters stand for a name in any script", () => {
    expect(initials("Ada Lovelace")).toBe("AL");
    expect(initials("#garden")).toBe("G");
    expect(initials("李小龍")).toBe("李");
    expect(initials("\u{1f600}")).toBe("·");
});

test("the colour of an id is always the same and always one there is", () => {
    expect(colourOf("@a:b", 8)).toBe(colourOf("@a:b", 8));
    for (let i = 0; i < 100; i += 1) expect(colourOf(`@${i}:b`, 8)).toBeLessThan(8);
});
