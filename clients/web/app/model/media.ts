/** Media from the homeserver: fetched with authentication, decrypted here, kept encrypted for when there is no network. */
import type { MatrixClient } from "matrix-js-sdk";
import { decrypt, encrypt, type EncryptedFile } from "../lib/attachment.ts";
import { isPicture } from "../lib/pictures.ts";

const CACHE = "kith-media";
const KEPT_URLS = 300;
/** Larger files are not kept for offline use. */
const MAX_KEPT_BYTES = 30_000_000;

export interface Media {
    /** An address (`blob:`) that shows the picture or plays the sound or film; it stays valid for a while. */
    url(source: MediaSource): Promise<string>;
    /** The file itself, with a type that no browser runs. */
    file(source: MediaSource): Promise<Blob>;
    avatar(mxc: string, edge: number): Promise<string>;
    upload(blob: Blob, encrypted: boolean, progress?: (part: number) => void): Promise<{ url: string } | { file: EncryptedFile }>;
    usedBytes(): Promise<number>;
    forget(): Promise<void>;
}

export interface MediaSource {
    url?: string;
    file?: EncryptedFile;
    mimetype?: string;
}

/** Types that are shown or played; everything else is only ever saved. HTML and SVG can hold scripts. */
export function safeType(type: string | undefined): string {
    if (type && (isPicture(type) || /^(audio|video)\/[\w.+-]+$/.test(type))) return type;
    return "application/octet-stream";
}

export function createMedia(client: MatrixClient): Media {
    const urls = new Map<string, Promise<string>>();

    async function fetched(http: string): Promise<ArrayBuffer> {
        const cache = await caches.open(CACHE).catch(() => null);
        const key = `https://media.invalid/${encodeURIComponent(http)}`;
        const kept = await cache?.match(key);
        if (kept) return kept.arrayBuffer();
        const answer = await fetch(http, { headers: { Authorization: `Bearer ${client.getAccessToken()}` } });
        if (!answer.ok) throw new Error(`${answer.status}`);
        const data = await answer.arrayBuffer();
        if (data.byteLength <= MAX_KEPT_BYTES) await cache?.put(key, new Response(data.slice(0))).catch(() => {});
        return data;
    }

    function address(mxc: string, edge?: number): string {
        const http = client.mxcUrlToHttp(mxc, edge, edge, edge ? "crop" : undefined, false, true, true);
        if (!http) throw new Error("no media address");
        return http;
    }

    function once(key: string, make: () => Promise<Blob>): Promise<string> {
        let found = urls.get(key);
        if (!found) {
            found = make().then((blob) => URL.createObjectURL(blob));
            found.catch(() => urls.delete(key));
        } else urls.delete(key);
        urls.set(key, found);
        if (urls.size > KEPT_URLS) {
            const [oldest, url] = urls.entries().next().value!;
            urls.delete(oldest);
            void url.then(URL.revokeObjectURL).catch(() => {});
        }
        return found;
    }

    const file = async ({ url, file, mimetype }: MediaSource): Promise<Blob> => {
        const data = await fetched(address(file?.url ?? url ?? ""));
        return new Blob([file ? await decrypt(data, file) : data], { type: safeType(mimetype) });
    };

    return {
        file,
        url: (source) => once(`${source.file?.url ?? source.url} ${source.mimetype}`, () => file(source)),
        avatar: (mxc, edge) => once(`${mxc} ${edge}`, async () => new Blob([await fetched(address(mxc, edge))], { type: "image/png" })),
        async upload(blob, encrypted, progress) {
            const progressHandler = ({ loaded, total }: { loaded: number; total: number }) => progress?.(total ? loaded / total : 0);
            if (!encrypted) {
                const { content_uri } = await client.uploadContent(blob, { type: blob.type || "application/octet-stream", includeFilename: false, progressHandler });
                return { url: content_uri };
            }
            const { data, info } = await encrypt(await blob.arrayBuffer());
            const { content_uri } = await client.uploadContent(new Blob([data]), { type: "application/octet-stream", includeFilename: false, progressHandler });
            const uploaded = { ...info, url: content_uri };
            // What was just sent need not be fetched again.
            const cache = await caches.open(CACHE).catch(() => null);
            await cache?.put(`https://media.invalid/${encodeURIComponent(address(content_uri))}`, new Response(data)).catch(() => {});
            return { file: uploaded };
        },
        async usedBytes() {
            return (await navigator.storage?.estimate?.())?.usage ?? 0;
        },
        async forget() {
            await caches.delete(CACHE);
        },
    };
}
