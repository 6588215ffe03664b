/** Reads what strangers wrote about their files: nothing in it is believed. */
import type { IContent } from "matrix-js-sdk";
import type { EncryptedFile } from "../../lib/attachment.ts";
import { safeName } from "../../lib/names.ts";
import type { MediaSource } from "../../model/media.ts";

export function sourceOf(content: IContent): MediaSource | null {
    const mimetype = typeof content.info?.mimetype === "string" ? content.info.mimetype : undefined;
    return made(content.file, content.url, mimetype);
}

export function thumbnailOf(content: IContent): MediaSource | null {
    const info = content.info ?? {};
    const mimetype = typeof info.thumbnail_info?.mimetype === "string" ? info.thumbnail_info.mimetype : "image/jpeg";
    return made(info.thumbnail_file, info.thumbnail_url, mimetype);
}

function made(file: unknown, url: unknown, mimetype: string | undefined): MediaSource | null {
    const given = file as Partial<EncryptedFile> | undefined;
    const kind = mimetype ? { mimetype } : {};
    if (typeof given?.url === "string" && typeof given.key?.k === "string" && typeof given.iv === "string" && typeof given.hashes?.sha256 === "string") {
        return { file: given as EncryptedFile, ...kind };
    }
    return typeof url === "string" && url.startsWith("mxc://") ? { url, ...kind } : null;
}

export function nameOfFile(content: IContent): string {
    const name = typeof content.filename === "string" ? content.filename : content.body;
    return safeName(typeof name === "string" ? name : "", 120) || "file";
}

export function sizeOfFile(content: IContent): number | null {
    const size: unknown = content.info?.size;
    return typeof size === "number" && size >= 0 && size < 1e12 ? size : null;
}

/** The size to keep free for a picture, within the bounds of a bubble. */
export function frameOf(content: IContent, edge: number): { width: number; height: number } {
    const number = (value: unknown, otherwise: number) => (typeof value === "number" && value >= 1 && value <= 100_000 ? value : otherwise);
    const width = number(content.info?.w, 320);
    const height = number(content.info?.h, 240);
    const scale = Math.min(edge / width, edge / height, 1.5);
    return { width: Math.max(90, Math.round(width * scale)), height: Math.max(60, Math.round(height * scale)) };
}
