/** Makes the Matrix client of a saved session, and starts and ends it. */
import {
    createClient, IndexedDBStore, PendingEventOrdering, ClientEvent, SyncState, type ICreateClientOpts, type MatrixClient,
} from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger";
import { decodeRecoveryKey } from "matrix-js-sdk/lib/crypto-api";
import { clearDatabase } from "../lib/database.ts";
import { healFromBackup } from "./heal.ts";
import { saveSession, savedRecovery, type Session } from "./saved.ts";

const PREFIX = "kith";
const METHODS = ["m.sas.v1", "m.qr_code.show.v1", "m.qr_code.scan.v1", "m.reciprocate.v1"];

(logger as unknown as { setLevel(level: string, persist: boolean): void }).setLevel("error", false);

/** The key of secret storage while it is needed: what its owner typed, or what was just made. */
let secretStorageKey: Uint8Array<ArrayBuffer> | undefined;

export function useSecretStorageKey(key: Uint8Array<ArrayBuffer> | undefined): void {
    secretStorageKey = key;
}

export async function openClient(session: Session): Promise<MatrixClient> {
    const store = new IndexedDBStore({ indexedDB, localStorage, dbName: PREFIX });
    const options: ICreateClientOpts = {
        baseUrl: session.base_url,
        userId: session.user_id,
        deviceId: session.device_id,
        accessToken: session.access_token,
        store,
        timelineSupport: true,
        disableVoip: true,
        verificationMethods: METHODS,
        cryptoCallbacks: {
            getSecretStorageKey: async ({ keys }) => {
                const [id] = Object.keys(keys);
                const saved = secretStorageKey ? undefined : (await savedRecovery())?.encoded;
                const key = secretStorageKey ?? (saved ? (decodeRecoveryKey(saved) as Uint8Array<ArrayBuffer>) : undefined);
                return id && key ? [id, key] : null;
            },
            cacheSecretStorageKey: (_id, _info, key) => {
                secretStorageKey = key as Uint8Array<ArrayBuffer>;
            },
        },
    };
    const client = createClient(options);
    await store.startup();
    await client.initRustCrypto({ cryptoDatabasePrefix: PREFIX });
    healFromBackup(client);
    return client;
}

/** Starts syncing. Resolves when there is something to show: what was kept on this device, or the first answer. */
export async function startClient(client: MatrixClient): Promise<void> {
    const ready = new Promise<void>((resolve) => {
        const look = (state: SyncState | null) => {
            if (state !== SyncState.Prepared && state !== SyncState.Syncing) return;
            client.off(ClientEvent.Sync, look);
            resolve();
        };
        client.on(ClientEvent.Sync, look);
    });
    await client.startClient({
        lazyLoadMembers: true,
        threadSupport: true,
        initialSyncLimit: 30,
        pendingEventOrdering: PendingEventOrdering.Detached,
    });
    await ready;
}

/** Signs out: the server forgets this device, and this device everything. */
export async function signOut(client: MatrixClient): Promise<void> {
    await client.logout(true).catch(() => {});
    await forgetEverything(client);
}

export async function forgetEverything(client: MatrixClient): Promise<void> {
    client.stopClient();
    saveSession(null);
    for (const name of Object.keys(localStorage)) if (name.startsWith("kith.draft.") || name === "kith.wishes") localStorage.removeItem(name);
    await clearDatabase().catch(() => {});
    await caches.delete("kith-media").catch(() => false);
    await client.clearStores({ cryptoDatabasePrefix: PREFIX }).catch(() => {});
}
