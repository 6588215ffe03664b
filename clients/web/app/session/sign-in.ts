/** The ways to become signed in: the setup link, a new account where that is open, a password, a recovery key, another device. */
import { createClient, MatrixError, type RegisterRequest } from "matrix-js-sdk";
import { decodeRecoveryKey, encodeRecoveryKey } from "matrix-js-sdk/lib/crypto-api";
import { useSecretStorageKey } from "./open.ts";
import { passwordOf } from "./password.ts";
import { saveRecovery, type Session } from "./saved.ts";

const DEVICE_NAME = "kith";

type Answer = { user_id: string; device_id?: string; access_token?: string };

function sessionOf(base_url: string, answer: Answer): Session {
    return { base_url, user_id: answer.user_id, device_id: answer.device_id!, access_token: answer.access_token! };
}

/** Makes an account. Without a password one is made of the recovery key, which is made here in any case and kept on this device. */
export async function register(base_url: string, username: string, password: string | null, token: string | null): Promise<Session> {
    const key = crypto.getRandomValues(new Uint8Array(32));
    const request: RegisterRequest = {
        username,
        password: password ?? (await passwordOf(key)),
        initial_device_display_name: DEVICE_NAME,
    };
    const client = createClient({ baseUrl: base_url });
    const answer = await client.registerRequest(request).catch((error: unknown) => {
        const asked = error instanceof MatrixError && error.httpStatus === 401 ? (error.data as { session?: string }) : null;
        if (!asked) throw error;
        const session = asked.session;
        const auth = token ? { type: "m.login.registration_token", token, session } : { type: "m.login.dummy", session };
        return client.registerRequest({ ...request, auth });
    });
    useSecretStorageKey(key);
    await saveRecovery({ encoded: encodeRecoveryKey(key)!, saved: false, is_password: password === null, unfinished: true });
    return sessionOf(base_url, answer);
}

/** Signs in with a password, or with the recovery key of an account without one. */
export async function signIn(base_url: string, user: string, secret: string): Promise<Session> {
    const key = recoveryKey(secret);
    const identifier = { type: "m.id.user", user: user.trim() };
    const client = createClient({ baseUrl: base_url });
    const password = key ? await passwordOf(key) : secret;
    const answer = await client.loginRequest({
        type: "m.login.password", identifier, password, initial_device_display_name: DEVICE_NAME,
    });
    if (key) {
        useSecretStorageKey(key);
        await saveRecovery({ encoded: encodeRecoveryKey(key)!, saved: true, is_password: true });
    }
    return sessionOf(base_url, answer);
}

/** Signs in with the token of a link that another device shows. */
export async function signInByToken(base_url: string, token: string): Promise<Session> {
    const client = createClient({ baseUrl: base_url });
    return sessionOf(base_url, await client.loginRequest({ type: "m.login.token", token, initial_device_display_name: DEVICE_NAME }));
}

/** The bytes of a recovery key as a person writes it, or null if it is none. */
export function recoveryKey(text: string): Uint8Array<ArrayBuffer> | null {
    if (text.replace(/\s/g, "").length < 40) return null;
    try {
        return new Uint8Array(decodeRecoveryKey(text.trim()));
    } catch {
        return null;
    }
}

/** Whether anybody may make an account there. */
export async function isOpen(base_url: string): Promise<boolean> {
    try {
        await createClient({ baseUrl: base_url }).registerRequest({});
    } catch (error) {
        const flows = error instanceof MatrixError ? (error.data as { flows?: { stages: string[] }[] }).flows : undefined;
        return flows?.some(({ stages }) => stages.length === 1 && stages[0] === "m.login.dummy") ?? false;
    }
    return false;
}

/** The link by which another device signs in, made of its homeserver's address and a short-lived token. */
export function linkForDevice(base_url: string, token: string): string {
    const packed = btoa(JSON.stringify({ base_url, token })).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
    const page = new URL("./", location.href);
    return `${page.origin}${page.pathname}#/link/${packed}`;
}

export function readDeviceLink(link: string): { base_url: string; token: string } | null {
    const packed = /#\/link\/([\w-]+)$/.exec(link.trim())?.[1] ?? link;
    try {
        const read = JSON.parse(atob(packed.replace(/-/g, "+").replace(/_/g, "/"))) as { base_url?: unknown; token?: unknown };
        return typeof read.base_url === "string" && typeof read.token === "string" ? { base_url: read.base_url, token: read.token } : null;
    } catch {
        return null;
    }
}
