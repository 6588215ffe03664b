/** Photos as they are sent: upright, shrunk, without what the camera noted about place and time, and with a thumbnail. */

const MAX_EDGE = 2048;
const THUMBNAIL_EDGE = 640;
const QUALITY = 0.86;

export interface Picture {
    blob: Blob;
    width: number;
    height: number;
    thumbnail?: { blob: Blob; width: number; height: number };
}

/** Types that a browser shows and that cannot hold a script. */
export function isPicture(type: string): boolean {
    return /^image\/(jpeg|png|webp|gif|avif|bmp)$/.test(type);
}

/** Throws when the browser cannot read the file as a picture. */
export async function prepare(file: Blob): Promise<Picture> {
    // The bitmap is upright already, whatever the camera's orientation.
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    try {
        const { width, height } = bitmap;
        const moves = file.type === "image/gif";
        const main = moves ? { blob: file, width, height } : await drawn(bitmap, MAX_EDGE, typeFor(file));
        const small = Math.max(width, height) <= THUMBNAIL_EDGE && main.blob.size < 60_000;
        return { ...main, ...(small ? {} : { thumbnail: await drawn(bitmap, THUMBNAIL_EDGE, main.blob.type === "image/jpeg" ? "image/jpeg" : "image/webp") }) };
    } finally {
        bitmap.close();
    }
}

/** What a picture is drawn as: as it was where edges are sharp or something shines through, else as a photo. */
function typeFor(file: Blob): string {
    if (file.type === "image/png") return file.size < 400_000 ? "image/png" : "image/webp";
    return file.type === "image/webp" || file.type === "image/avif" ? "image/webp" : "image/jpeg";
}

/** A file's name, ending as its type has it. */
export function namedFor(name: string, type: string): string {
    const ending = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "audio/ogg": "ogg", "audio/webm": "webm", "audio/mp4": "m4a" }[type];
    if (!ending || (ending === "jpg" && /\.jpeg$/i.test(name))) return name;
    return `${name.replace(/\.[a-z0-9]{2,5}$/i, "")}.${ending}`;
}

/** A square picture for a profile or a room. */
export async function prepareAvatar(file: Blob): Promise<Blob> {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    const side = Math.min(bitmap.width, bitmap.height);
    const edge = Math.min(512, side);
    const canvas = new OffscreenCanvas(edge, edge);
    canvas.getContext("2d")!.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, edge, edge);
    bitmap.close();
    return canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
}

export function fitted(width: number, height: number, edge: number): { width: number; height: number } {
    const scale = Math.min(1, edge / Math.max(width, height));
    return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

async function drawn(bitmap: ImageBitmap, edge: number, type: string): Promise<{ blob: Blob; width: number; height: number }> {
    const { width, height } = fitted(bitmap.width, bitmap.height, edge);
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d")!;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, width, height);
    return { blob: await canvas.convertToBlob({ type, quality: QUALITY }), width, height };
}
