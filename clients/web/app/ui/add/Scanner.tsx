/** Reads a QR code with the camera. */
import { createSignal, onCleanup, onMount, Show } from "solid-js";
import { t } from "../../i18n/index.ts";

/** The text of a code, its bytes taken one by one (ISO 8859-1), so that codes which hold bytes come through whole. */
export function Scanner(props: { onText?: (text: string) => void; onBytes?: (bytes: Uint8ClampedArray) => void }) {
    let video!: HTMLVideoElement;
    const [problem, setProblem] = createSignal("");
    const [running, setRunning] = createSignal(false);
    let stream: MediaStream | undefined;
    let stopped = false;

    async function start(): Promise<void> {
        if (!navigator.mediaDevices?.getUserMedia) return void setProblem(t("scan.insecure"));
        try {
            stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
        } catch {
            return void setProblem(t("scan.noCamera"));
        }
        if (stopped) return stop();
        video.srcObject = stream;
        await video.play().catch(() => {});
        setRunning(true);
        const { decodeQR } = await import("qr/decode.js");
        const canvas = document.createElement("canvas");
        const context = canvas.getContext("2d", { willReadFrequently: true })!;
        const look = (): void => {
            if (stopped) return;
            if (video.videoWidth) {
                const scale = Math.min(1, 800 / video.videoWidth);
                canvas.width = Math.round(video.videoWidth * scale);
                canvas.height = Math.round(video.videoHeight * scale);
                context.drawImage(video, 0, 0, canvas.width, canvas.height);
                try {
                    const read = decodeQR(context.getImageData(0, 0, canvas.width, canvas.height), { textDecoder: (bytes) => String.fromCharCode(...bytes) });
                    stop();
                    if (props.onBytes) return props.onBytes(Uint8ClampedArray.from(read, (c) => c.charCodeAt(0)));
                    return props.onText?.(new TextDecoder().decode(Uint8Array.from(read, (c) => c.charCodeAt(0))));
                } catch {
                    // No code in this frame.
                }
            }
            setTimeout(look, 120);
        };
        look();
    }

    function stop(): void {
        stopped = true;
        stream?.getTracks().forEach((track) => track.stop());
    }

    onMount(() => void start());
    onCleanup(stop);
    return (
        <div class="scanner">
            <Show when={problem()}>
                <p class="hint">{problem()}</p>
            </Show>
            <video ref={video} muted playsinline aria-label={t("scan.camera")} hidden={!running()} />
            <Show when={running()}>
                <span class="scan-frame" aria-hidden="true" />
            </Show>
        </div>
    );
}
