/** Messages that could not be decrypted get their keys from the backup, once this device can open that. */
import type { MatrixClient } from "matrix-js-sdk";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api";

/** Other devices put a key into the backup some ten seconds after they made it, so the backup is looked into again. */
const LOOKS_MS = [0, 15_000, 45_000];

/** Looks into the backup whenever this device was given its key: by another device, or out of the secret storage. */
export function healFromBackup(client: MatrixClient): void {
    client.on(CryptoEvent.KeyBackupDecryptionKeyCached, () => {
        for (const wait of LOOKS_MS) setTimeout(() => void look(client), wait);
    });
}

async function look(client: MatrixClient): Promise<void> {
    if (!client.clientRunning) return;
    try {
        await client.getCrypto()?.restoreKeyBackup();
    } catch {
        // Without a network, say: the SDK asks for single keys when their messages are shown.
    }
}
