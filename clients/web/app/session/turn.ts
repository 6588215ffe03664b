/** The keys on this device must not be used by two tabs at once: one has its turn, the others wait for it or ask for it. */

const LOCK = "kith.session";
/** Whoever does not let go within this time sleeps or hangs, and is not waited for. */
const STEAL_AFTER_MS = 4000;

export interface Turn {
    /** Resolves when this tab has its turn, however long that takes: the other may be closed at any time. */
    mine: Promise<void>;
    /** Asks for it at once. */
    take(): void;
}

/** Waits for this tab's turn. `letGo` is called when another tab wants it: it ends what uses the keys and leaves the page. */
export function requestTurn(letGo: () => void): Turn {
    // Without locks (plain HTTP on another device) tabs do not know of each other.
    if (!navigator.locks) return { mine: Promise.resolve(), take() {} };
    const channel = new BroadcastChannel(LOCK);
    let held = false;
    let resolve!: () => void;
    const mine = new Promise<void>((done) => (resolve = done));
    const request = (options: LockOptions) =>
        navigator.locks
            .request(LOCK, options, () => {
                held = true;
                resolve();
                return new Promise<void>(() => {});
            })
            // It was taken away.
            .catch(letGo);
    void request({});
    channel.onmessage = () => held && letGo();
    return {
        mine,
        take() {
            channel.postMessage("let go");
            setTimeout(() => held || void request({ steal: true }), STEAL_AFTER_MS);
        },
    };
}
