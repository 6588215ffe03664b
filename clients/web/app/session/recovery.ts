/** Cross-signing, secret storage and key backup: set up without questions, and brought back on a new device. */
import type { AuthDict, MatrixClient, UIAuthCallback } from "matrix-js-sdk";
import { encodeRecoveryKey } from "matrix-js-sdk/lib/crypto-api";
import { useSecretStorageKey } from "./open.ts";
import { passwordOf } from "./password.ts";
import { saveRecovery, savedRecovery, type Recovery } from "./saved.ts";
import { recoveryKey } from "./sign-in.ts";

/** How a device stands towards the account's identity. */
export type Standing =
    | "ready"
    /** The account has no identity yet: it can be made here. */
    | "none"
    /** The account has one, and this device does not belong to it yet. */
    | "unverified";

export async function standing(client: MatrixClient): Promise<Standing> {
    const crypto = client.getCrypto()!;
    const device = await crypto.getDeviceVerificationStatus(client.getSafeUserId(), client.getDeviceId()!);
    if (device?.crossSigningVerified && (await crypto.getCrossSigningKeyId())) return "ready";
    return (await crypto.userHasCrossSigningKeys(undefined, true)) ? "unverified" : "none";
}

/** Makes the identity of a new account and its backup, with the recovery key that this device keeps; or what is missing of them. */
export async function setUp(client: MatrixClient, password: string | null): Promise<void> {
    const crypto_ = client.getCrypto()!;
    const kept = await savedRecovery();
    const key = (kept && recoveryKey(kept.encoded)) || crypto.getRandomValues(new Uint8Array(32));
    const recovery: Recovery = { encoded: encodeRecoveryKey(key)!, saved: kept?.saved ?? false, is_password: kept?.is_password ?? false };
    await saveRecovery({ ...recovery, unfinished: true });
    useSecretStorageKey(key);
    if (await isPublished(client)) await crypto_.crossSignDevice(client.getDeviceId()!);
    else await crypto_.bootstrapCrossSigning({ setupNewCrossSigning: true, authUploadDeviceSigningKeys: await withPassword(client, password) });
    await crypto_.bootstrapSecretStorage({
        createSecretStorageKey: async () => ({ privateKey: key, encodedPrivateKey: recovery.encoded, keyInfo: {} }) as never,
        setupNewSecretStorage: true,
        setupNewKeyBackup: true,
    });
    await saveRecovery(recovery);
}

/** Whether the homeserver has the identity whose private keys this device holds. */
async function isPublished(client: MatrixClient): Promise<boolean> {
    const me = client.getSafeUserId();
    const own = await client.getCrypto()!.getCrossSigningKeyId();
    if (!own) return false;
    const { master_keys } = await client.downloadKeysForUsers([me]);
    return Object.values(master_keys?.[me]?.keys ?? {}).includes(own);
}

/** Whether this device made the account, and was closed before the identity and the backup were complete. */
export async function isUnfinished(client: MatrixClient): Promise<boolean> {
    const kept = await savedRecovery();
    if (!kept?.unfinished) return false;
    const stored = await client.secretStorage.getKey();
    // Where another device has made an identity meanwhile, that is the account's.
    return !stored || (await client.secretStorage.checkKey(recoveryKey(kept.encoded)!, stored[1]));
}

/** Brings the identity and the backed-up keys to this device. Throws if the key is not the one. Returns how many keys came. */
export async function restore(client: MatrixClient, text: string): Promise<number> {
    const key = recoveryKey(text);
    if (!key) throw new NoRecoveryKey();
    const stored = await client.secretStorage.getKey();
    if (stored && !(await client.secretStorage.checkKey(key, stored[1]))) throw new NoRecoveryKey();
    useSecretStorageKey(key);
    const crypto = client.getCrypto()!;
    await crypto.userHasCrossSigningKeys(undefined, true);
    await crypto.bootstrapCrossSigning({});
    const kept = await savedRecovery();
    await saveRecovery({ encoded: encodeRecoveryKey(key)!, saved: true, is_password: kept?.is_password ?? false });
    if (!(await crypto.getKeyBackupInfo())) return 0;
    if (!(await hasBackupKey(client))) {
        // A device may have been closed before it kept the key there; it still holds it, and gives it to this one when both are there
        // (heal.ts). To make a new backup here would delete the old one, with all that only it has.
        await crypto.checkKeyBackupAndEnable();
        return 0;
    }
    await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
    await crypto.checkKeyBackupAndEnable();
    return (await crypto.restoreKeyBackup()).imported;
}

/** How long another device may take to keep the backup's key, which it does last. */
const PATIENCE_MS = 5_000;

/** Whether the key of the backup lies in the secret storage, as far as sync has told. */
async function hasBackupKey(client: MatrixClient): Promise<boolean> {
    const end = Date.now() + PATIENCE_MS;
    while (!(await client.secretStorage.isStored("m.megolm_backup.v1"))) {
        if (Date.now() > end) return false;
        await new Promise((resolve) => setTimeout(resolve, 200));
    }
    return true;
}

export class NoRecoveryKey extends Error {}

/** Proves who asks, where the server wants that: with the given password, or the one that is made of the recovery key. */
export async function withPassword(client: MatrixClient, given: string | null): Promise<UIAuthCallback<void>> {
    const kept = await savedRecovery();
    const key = kept?.is_password ? recoveryKey(kept.encoded) : null;
    const password = given ?? (key ? await passwordOf(key) : null);
    return async (makeRequest) => {
        const auth: AuthDict | null = password === null ? null : authOf(client.getSafeUserId(), password);
        await uiaRequest(makeRequest as (auth: AuthDict | null) => Promise<void>, auth);
    };
}

/** Makes a request that the server may want proof for; the proof is given only when it is asked for. */
export async function uiaRequest<T>(makeRequest: (auth: AuthDict | null) => Promise<T>, proof: AuthDict | null): Promise<T> {
    try {
        return await makeRequest(null);
    } catch (error) {
        const { httpStatus, data } = error as { httpStatus?: number; data?: { session?: string } };
        if (httpStatus !== 401 || !proof) throw error;
        return await makeRequest({ ...proof, session: data?.session } as AuthDict);
    }
}

export function authOf(user: string, password: string): AuthDict {
    return { type: "m.login.password", identifier: { type: "m.id.user", user }, password } as AuthDict;
}
