/** Writes what was synced to this device soon, so that it is there when the client opens without a network. */
import { ClientEvent, RoomEvent, type MatrixClient } from "matrix-js-sdk";

/** The SDK alone would write every five minutes. Each time it writes all rooms, so not after each message. */
const SOON_MS = 2000;
const AT_MOST_EVERY_MS = 20_000;

export function createKeeper(client: MatrixClient): { stop(): void } {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let last = 0;

    async function write(): Promise<void> {
        timer = undefined;
        last = Date.now();
        await client.store.save(true).catch(() => {});
    }
    const soon = () => {
        timer ??= setTimeout(() => void write(), Math.max(SOON_MS, last + AT_MOST_EVERY_MS - Date.now()));
    };
    const hidden = () => {
        if (document.visibilityState === "hidden" && timer) {
            clearTimeout(timer);
            void write();
        }
    };
    const events = [RoomEvent.Timeline, RoomEvent.Receipt, RoomEvent.MyMembership, ClientEvent.AccountData] as const;
    for (const event of events) client.on(event as never, soon as never);
    document.addEventListener("visibilitychange", hidden);
    return {
        stop() {
            clearTimeout(timer);
            for (const event of events) client.off(event as never, soon as never);
            document.removeEventListener("visibilitychange", hidden);
        },
    };
}
