/** Encrypted attachments (client-server API, "Sending encrypted attachments"): AES-CTR by the browser, with the hash of what is uploaded. */

export interface EncryptedFile {
    url: string;
    key: JsonWebKey & { k: string };
    iv: string;
    hashes: { sha256: string };
    v: "v2";
}

const ALGORITHM = "AES-CTR";
/** The counter is the lower half of the initial block. */
const COUNTER_BITS = 64;

export async function encrypt(plain: ArrayBuffer): Promise<{ data: ArrayBuffer; info: Omit<EncryptedFile, "url"> }> {
    const key = await crypto.subtle.generateKey({ name: ALGORITHM, length: 256 }, true, ["encrypt", "decrypt"]);
    const counter = new Uint8Array(16);
    crypto.getRandomValues(counter.subarray(0, 8));
    const data = await crypto.subtle.encrypt({ name: ALGORITHM, counter, length: COUNTER_BITS }, key, plain);
    const { k } = await crypto.subtle.exportKey("jwk", key);
    return {
        data,
        info: {
            v: "v2",
            key: { alg: "A256CTR", ext: true, k: k!, key_ops: ["encrypt", "decrypt"], kty: "oct" },
            iv: toBase64(counter),
            hashes: { sha256: toBase64(new Uint8Array(await crypto.subtle.digest("SHA-256", data))) },
        },
    };
}

/** Throws when the file is not what its sender encrypted. */
export async function decrypt(data: ArrayBuffer, file: EncryptedFile): Promise<ArrayBuffer> {
    const hash = toBase64(new Uint8Array(await crypto.subtle.digest("SHA-256", data)));
    if (hash !== file.hashes.sha256.replace(/=+$/, "")) throw new Error("the file was changed on its way");
    const jwk: JsonWebKey = { kty: "oct", alg: "A256CTR", k: file.key.k, ext: true };
    const key = await crypto.subtle.importKey("jwk", jwk, ALGORITHM, false, ["decrypt"]);
    return crypto.subtle.decrypt({ name: ALGORITHM, counter: fromBase64(file.iv), length: COUNTER_BITS }, key, data);
}

function toBase64(bytes: Uint8Array): string {
    return btoa(String.fromCharCode(...bytes)).replace(/=+$/, "");
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}
