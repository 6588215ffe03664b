/** A password made of the recovery key, for accounts whose owner chose none: one secret brings everything back. */

export async function passwordOf(recoveryKey: Uint8Array<ArrayBuffer>): Promise<string> {
    const key = await crypto.subtle.importKey("raw", recoveryKey, "HKDF", false, ["deriveBits"]);
    const info = new TextEncoder().encode("org.kith.password");
    const bits = await crypto.subtle.deriveBits({ name: "HKDF", hash: "SHA-256", salt: new Uint8Array(32), info }, key, 256);
    return btoa(String.fromCharCode(...new Uint8Array(bits)));
}
