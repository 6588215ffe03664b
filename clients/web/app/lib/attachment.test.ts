import { expect, test } from "vitest";
import { decrypt, encrypt, type EncryptedFile } from "./attachment.ts";

const bytes = (text: string) => new TextEncoder().encode(text).buffer as ArrayBuffer;

test("a file comes back as it was, and what is uploaded does not hold it", async () => {
    const plain = bytes("a photo of the harbour".repeat(100));
    const { data, info } = await encrypt(plain);
    expect(new TextDecoder("latin1").decode(data)).not.toContain("harbour");
    expect(await decrypt(data, { ...info, url: "mxc://a/b" })).toEqual(plain);
    expect(info.key.k).toMatch(/^[\w-]{43}$/);
});

test("a file that was changed on its way is refused", async () => {
    const { data, info } = await encrypt(bytes("hello"));
    new Uint8Array(data)[0]! ^= 1;
    await expect(decrypt(data, { ...info, url: "mxc://a/b" })).rejects.toThrow();
});

test("a file of the specification's format that another program made is read", async () => {
    // AES-256-CTR by OpenSSL: key 00..1f, initial block 0102030405060708 0000000000000000, of "hello".
    const file = {
        url: "mxc://a/b", v: "v2", iv: "AQIDBAUGBwgAAAAAAAAAAA", key: { k: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8" }, hashes: { sha256: "VfP2OFiuxZPJazFzAOCbvrzIHzr/4GuZ3+su9jvTD80" },
    } as EncryptedFile;
    const data = Uint8Array.from(atob("DQcXvUg="), (c) => c.charCodeAt(0)).buffer;
    expect(new TextDecoder().decode(await decrypt(data, file))).toBe("hello");
});
