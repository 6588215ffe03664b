/** A QR code drawn as one path. */
import { createMemo } from "solid-js";
import { encodeQR } from "qr";

export function QrCode(props: { text?: string; bytes?: Uint8ClampedArray; label: string }) {
    const drawn = createMemo(() => {
        const bytes = props.bytes;
        const text = bytes ? String.fromCharCode(...bytes) : (props.text ?? "");
        const options = bytes
            ? { encoding: "byte" as const, textEncoder: (latin: string) => Uint8Array.from(latin, (c) => c.charCodeAt(0)) }
            : {};
        const rows = encodeQR(text, "raw", { ecc: "low", border: 2, ...options });
        const path = rows.map((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : "")).join("")).join("");
        return { size: rows.length, path };
    });
    return (
        <svg class="qr-code" viewBox={`0 0 ${drawn().size} ${drawn().size}`} role="img" aria-label={props.label} shape-rendering="crispEdges">
            <rect width="100%" height="100%" class="qr-ground" />
            <path d={drawn().path} class="qr-dark" />
        </svg>
    );
}
