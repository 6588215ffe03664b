/** Verification of devices and people: the request of the moment, followed through its phases. */
import { createSignal, type Accessor } from "solid-js";
import type { MatrixClient } from "matrix-js-sdk";
import {
    CryptoEvent, VerificationPhase, VerificationRequestEvent, VerifierEvent, type ShowQrCodeCallbacks, type ShowSasCallbacks,
    type VerificationRequest, type Verifier,
} from "matrix-js-sdk/lib/crypto-api";

export interface Current {
    request: VerificationRequest;
    sas: ShowSasCallbacks | null;
    /** Shown when the other side says that it has scanned our code. */
    scanned: ShowQrCodeCallbacks | null;
    /** What to show as a QR code, while both sides can. */
    code: Uint8ClampedArray | null;
    /** Rises with each change. */
    version: number;
}

export interface Verifications {
    current: Accessor<Current | null>;
    begin(request: Promise<VerificationRequest>): Promise<void>;
    accept(): Promise<void>;
    /** Compares emoji. */
    startEmoji(): Promise<void>;
    scan(code: Uint8ClampedArray): Promise<void>;
    /** The way out at every step. */
    cancel(mismatch?: boolean): Promise<void>;
    close(): void;
    stop(): void;
}

export function createVerifications(client: MatrixClient, done: () => void): Verifications {
    const [current, setCurrent] = createSignal<Current | null>(null);
    let watched: Verifier | undefined;
    let coded: VerificationRequest | undefined;

    function follow(request: VerificationRequest): void {
        const open = current();
        // The SDK may tell of one request by several objects.
        if (open && open.request.transactionId === request.transactionId) return;
        if (open && open.request !== request && isUnderWay(open.request)) {
            void request.cancel().catch(() => {});
            return;
        }
        watched = undefined;
        setCurrent({ request, sas: null, scanned: null, code: null, version: 0 });
        request.on(VerificationRequestEvent.Change, () => void changed(request));
        void changed(request);
    }

    function update(request: VerificationRequest, part: Partial<Current>): void {
        setCurrent((before) => (before?.request === request ? { ...before, ...part, version: before.version + 1 } : before));
    }

    async function changed(request: VerificationRequest): Promise<void> {
        update(request, {});
        if (request.phase === VerificationPhase.Ready && coded !== request && request.otherPartySupportsMethod("m.qr_code.scan.v1")) {
            coded = request;
            // Where none can be made (keys that are missing still), emoji are left.
            request.generateQRCode().then((code) => code && update(request, { code }), () => {});
        }
        const verifier = request.verifier;
        if (verifier && verifier !== watched) {
            watched = verifier;
            const sas = (callbacks: ShowSasCallbacks) => update(request, { sas: callbacks });
            const scanned = (callbacks: ShowQrCodeCallbacks) => update(request, { scanned: callbacks });
            verifier.on(VerifierEvent.ShowSas, sas);
            verifier.on(VerifierEvent.ShowReciprocateQr, scanned);
            verifier.verify().then(
                () => update(request, {}),
                () => update(request, {}),
            );
            const [shown, read] = [verifier.getShowSasCallbacks(), verifier.getReciprocateQrCodeCallbacks()];
            if (shown) sas(shown);
            if (read) scanned(read);
        }
        if (request.phase === VerificationPhase.Done) done();
    }

    client.on(CryptoEvent.VerificationRequestReceived as never, follow as never);
    return {
        current,
        begin: async (request) => follow(await request),
        accept: async () => current()?.request.accept(),
        startEmoji: async () => {
            await current()?.request.startVerification("m.sas.v1");
        },
        scan: async (code) => {
            await current()?.request.scanQRCode(code);
        },
        async cancel(mismatch = false) {
            const open = current();
            if (!open) return;
            if (mismatch && open.sas) open.sas.mismatch();
            else if (isUnderWay(open.request)) await open.request.cancel().catch(() => {});
            if (!mismatch) setCurrent(null);
        },
        close: () => setCurrent(null),
        stop: () => {
            client.off(CryptoEvent.VerificationRequestReceived as never, follow as never);
        },
    };
}

export function isUnderWay(request: VerificationRequest): boolean {
    return request.phase !== VerificationPhase.Cancelled && request.phase !== VerificationPhase.Done;
}
