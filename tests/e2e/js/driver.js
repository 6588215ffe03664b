// A person's client on matrix-js-sdk with Rust crypto, told what to do by lines of JSON: see ../driver.py.

import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { webcrypto } from "node:crypto";

// matrix-js-sdk 43 is written for Node 22. These two are all that an older one lacks of what is used here.
globalThis.crypto ??= webcrypto;
Promise.withResolvers ??= () => {
    const made = {};
    made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
    return made;
};

const { Attachment, EncryptedAttachment } = await import("@matrix-org/matrix-sdk-crypto-wasm");
const { createClient, MatrixEvent } = await import("matrix-js-sdk");
const { CryptoEvent, VerificationPhase, decodeRecoveryKey } = await import("matrix-js-sdk/lib/crypto-api/index.js");
const { logger } = await import("matrix-js-sdk/lib/logger.js");

// Standard output is for answers; the library's own words go to the log.
for (const level of ["trace", "debug", "info", "warn", "error", "log"]) {
    console[level] = (...words) => process.stderr.write(`${level} ${words.map(String).join(" ")}\n`);
}
logger.setLevel("warn", false);

let client;
let credentials;
let secretStorageKey;
const requests = [];
let verification;

const crypto_ = () => client.getCrypto();

/** Calls `condition` until it gives something, at most so many seconds. */
async function until(condition, seconds, what) {
    const end = Date.now() + seconds * 1000;
    for (;;) {
        const value = await condition();
        if (value) return value;
        if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

async function begin(homeserver, answer, password) {
    credentials = { username: answer.user_id, password };
    client = createClient({
        baseUrl: homeserver,
        userId: answer.user_id,
        deviceId: answer.device_id,
        accessToken: answer.access_token,
        verificationMethods: ["m.sas.v1"],
        cryptoCallbacks: {
            getSecretStorageKey: async ({ keys }) => {
                const [id] = Object.keys(keys);
                return secretStorageKey && id ? [id, secretStorageKey] : null;
            },
            cacheSecretStorageKey: (_id, _info, key) => (secretStorageKey = key),
        },
    });
    await client.initRustCrypto({ useIndexedDB: false });
    client.on(CryptoEvent.VerificationRequestReceived, (request) => requests.push(request));
    await client.startClient({ initialSyncLimit: 100 });
    await until(() => client.isInitialSyncComplete(), 20, "the first sync");
    return { ...answer, fingerprint: (await crypto_().getOwnDeviceKeys()).ed25519 };
}

/** Proves who asks, where the server wants that. */
function withPassword(makeRequest) {
    const { username, password } = credentials;
    return makeRequest({ type: "m.login.password", identifier: { type: "m.id.user", user: username }, password });
}

const shown = (event) => ({
    event_id: event.getId(),
    sender: event.getSender(),
    type: event.getType(),
    content: event.getContent(),
    encrypted: event.isEncrypted(),
});

/** Goes on with a verification until both sides have the short authentication string. */
async function untilString(request, starts) {
    await until(() => request.phase === VerificationPhase.Ready || request.verifier, 20, "the other side is ready");
    const verifier = starts ? await request.startVerification("m.sas.v1") : await until(() => request.verifier, 20, "a start");
    verification = { request, done: verifier.verify() };
    verification.done.catch(() => {});
    const callbacks = await until(() => verifier.getShowSasCallbacks(), 20, "a short authentication string");
    verification.confirm = callbacks.confirm;
    return { decimals: callbacks.sas.decimal, emoji: callbacks.sas.emoji.map(([symbol]) => symbol) };
}

const commands = {
    async register({ homeserver, username, password }) {
        const auth = { type: "m.login.dummy" };
        const answer = await createClient({ baseUrl: homeserver }).registerRequest({ username, password, auth });
        return await begin(homeserver, answer, password);
    },

    async login({ homeserver, username, password }) {
        const identifier = { type: "m.id.user", user: username };
        const answer = await createClient({ baseUrl: homeserver }).loginRequest({ type: "m.login.password", identifier, password });
        return await begin(homeserver, answer, password);
    },

    async create_room() {
        const content = { algorithm: "m.megolm.v1.aes-sha2" };
        const initial_state = [{ type: "m.room.encryption", state_key: "", content }];
        const { room_id } = await client.createRoom({ preset: "private_chat", initial_state });
        await until(() => crypto_().isEncryptionEnabledInRoom(room_id), 20, "the room's encryption");
        return { room_id };
    },

    async invite({ room_id, user_id }) {
        await client.invite(room_id, user_id);
    },

    async accept({ room_id, seconds }) {
        await until(() => client.getRoom(room_id)?.getMyMembership() === "invite", seconds, "an invitation");
        await client.joinRoom(room_id);
        await until(() => crypto_().isEncryptionEnabledInRoom(room_id), seconds, "the room's encryption");
    },

    async sees_member({ room_id, user_id, device_id, seconds }) {
        await until(() => client.getRoom(room_id)?.getMember(user_id)?.membership === "join", seconds, `${user_id} in the room`);
        await until(async () => (await crypto_().getUserDeviceInfo([user_id], true)).get(user_id)?.has(device_id), seconds, device_id);
    },

    async send({ room_id, body }) {
        return await client.sendMessage(room_id, { msgtype: "m.text", body });
    },

    /** Sends a text whose keys go to verified devices alone. */
    async send_to_verified({ room_id, body }) {
        crypto_().globalBlacklistUnverifiedDevices = true;
        await crypto_().forceDiscardSession(room_id);
        return await client.sendMessage(room_id, { msgtype: "m.text", body });
    },

    async send_photo({ room_id, path, name }) {
        const encrypted = Attachment.encrypt(new Uint8Array(await readFile(path)));
        const keys = JSON.parse(encrypted.mediaEncryptionInfo);
        const { content_uri } = await client.uploadContent(Buffer.from(encrypted.encryptedData), { type: "application/octet-stream" });
        const file = { ...keys, url: content_uri };
        return await client.sendMessage(room_id, { msgtype: "m.image", body: name, file, info: { mimetype: "image/jpeg" } });
    },

    async wait_for_message({ room_id, body, seconds }) {
        const found = () =>
            client
                .getRoom(room_id)
                ?.getLiveTimeline()
                .getEvents()
                .find((event) => !event.isDecryptionFailure() && event.getContent().body === body);
        return shown(await until(found, seconds, `message ${body}`));
    },

    async read({ room_id, event_id, seconds }) {
        const event = new MatrixEvent(await client.fetchRoomEvent(room_id, event_id));
        const opened = async () => {
            await client.decryptEventIfNeeded(event);
            return !event.isDecryptionFailure();
        };
        await until(opened, seconds, "the event in clear");
        return shown(event);
    },

    async fetch_photo({ content: { file }, path }) {
        const url = client.mxcUrlToHttp(file.url, undefined, undefined, undefined, false, true, true);
        const response = await fetch(url, { headers: { Authorization: `Bearer ${client.getAccessToken()}` } });
        if (!response.ok) throw new Error(`download: ${response.status} ${await response.text()}`);
        const { url: _, ...keys } = file;
        const encrypted = new EncryptedAttachment(new Uint8Array(await response.arrayBuffer()), JSON.stringify(keys));
        await writeFile(path, Attachment.decrypt(encrypted));
    },

    async set_up_recovery() {
        const made = await crypto_().createRecoveryKeyFromPassphrase();
        await crypto_().bootstrapCrossSigning({ authUploadDeviceSigningKeys: withPassword });
        await crypto_().bootstrapSecretStorage({
            createSecretStorageKey: async () => made,
            setupNewSecretStorage: true,
            setupNewKeyBackup: true,
        });
        return { recovery_key: made.encodedPrivateKey };
    },

    async recover({ recovery_key }) {
        secretStorageKey = decodeRecoveryKey(recovery_key);
        // What it knows of itself must be here before its secrets are believed.
        await crypto_().userHasCrossSigningKeys(undefined, true);
        await crypto_().bootstrapCrossSigning({});
        if (!(await crypto_().getKeyBackupInfo())) return { imported: 0 };
        await crypto_().loadSessionBackupPrivateKeyFromSecretStorage();
        await crypto_().checkKeyBackupAndEnable();
        const { imported } = await crypto_().restoreKeyBackup();
        return { imported };
    },

    async request_verification({ user_id, device_id, room_id, starts }) {
        const request = room_id
            ? await crypto_().requestVerificationDM(user_id, room_id)
            : await crypto_().requestDeviceVerification(user_id, device_id);
        return await untilString(request, starts);
    },

    async answer_verification({ user_id, starts, seconds }) {
        const request = await until(() => requests.find((one) => one.otherUserId === user_id), seconds, "a request");
        requests.splice(requests.indexOf(request), 1);
        await request.accept();
        return await untilString(request, starts);
    },

    async confirm() {
        await verification.confirm();
        await verification.done;
        await until(() => verification.request.phase === VerificationPhase.Done, 20, "both have confirmed");
    },

    /** What this client holds of a device: its key, and what it thinks of it. */
    async device({ user_id, device_id }) {
        const device = (await crypto_().getUserDeviceInfo([user_id], true)).get(user_id)?.get(device_id);
        const status = await crypto_().getDeviceVerificationStatus(user_id, device_id);
        if (!device || !status) throw new Error(`the device ${device_id} is not known`);
        const user = await crypto_().getUserVerificationStatus(user_id);
        return {
            fingerprint: device.getFingerprint(),
            signed_by_owner: status.signedByOwner,
            verified: status.isVerified(),
            owner_verified: user.isVerified(),
        };
    },

    async trust({ user_id, device_id }) {
        await crypto_().setDeviceVerified(user_id, device_id);
    },
};

const answer = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

createInterface({ input: process.stdin })
    .on("line", async (line) => {
        const { id, command, ...options } = JSON.parse(line);
        try {
            answer({ id, ok: (await commands[command](options)) ?? {} });
        } catch (error) {
            answer({ id, error: `${error?.stack ?? error}` });
        }
    })
    .on("close", () => process.exit(0));
process.on("unhandledRejection", (error) => console.error("unhandled", error?.stack ?? error));
