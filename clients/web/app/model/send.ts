/** What a person does in a conversation: says something, answers, changes, takes back, reacts, sends files. */
import { EventStatus, EventType, MsgType, RelationType, type MatrixClient, type MatrixEvent, type Room } from "matrix-js-sdk";
import { format } from "../lib/markdown.ts";
import { isPicture, namedFor, prepare } from "../lib/pictures.ts";
import { safeName } from "../lib/names.ts";
import type { Media } from "./media.ts";
import { isEncrypted } from "./rooms.ts";

export interface Context {
    reply?: MatrixEvent | null;
    edit?: MatrixEvent | null;
    thread_id?: string | null;
}

type Content = Record<string, unknown>;

/** The content of a text that a person typed. */
export function textContent(text: string, mentions: string[] = []): Content {
    const emote = text.startsWith("/me ");
    const body = emote ? text.slice(4) : text;
    const formatted = format(body);
    return {
        msgtype: emote ? MsgType.Emote : MsgType.Text,
        body,
        ...(formatted ? { format: "org.matrix.custom.html", formatted_body: formatted } : {}),
        "m.mentions": mentions.length ? { user_ids: mentions } : {},
    };
}

export async function sendText(client: MatrixClient, room: Room, text: string, context: Context, mentions: string[]): Promise<void> {
    const { edit, reply } = context;
    let content = textContent(text, reply ? [...new Set([...mentions, reply.getSender()!])] : mentions);
    if (edit) {
        content = {
            ...content,
            body: `* ${content.body as string}`,
            "m.new_content": content,
            "m.relates_to": { rel_type: RelationType.Replace, event_id: edit.getId() },
        };
    } else Object.assign(content, relation(room, context));
    await client.sendEvent(room.roomId, null, EventType.RoomMessage, content as never);
}

function relation(room: Room, { reply, thread_id }: Context): Content {
    const answers = reply ? { "m.in_reply_to": { event_id: reply.getId() } } : {};
    if (thread_id) {
        const last = room.getThread(thread_id)?.replyToEvent?.getId() ?? thread_id;
        return {
            "m.relates_to": {
                rel_type: "m.thread",
                event_id: thread_id,
                is_falling_back: !reply,
                ...(reply ? answers : { "m.in_reply_to": { event_id: last } }),
            },
        };
    }
    return reply ? { "m.relates_to": answers } : {};
}

export interface Upload {
    name: string;
    /** 0 to 1. */
    progress(part: number): void;
}

/** Sends a file: a picture shrunk and upright, anything else as it is. */
export async function sendFile(client: MatrixClient, media: Media, room: Room, file: File, context: Context, progress: (part: number) => void): Promise<void> {
    const encrypted = isEncrypted(room);
    const name = safeName(file.name || "file", 200);
    const send = (content: Content) => client.sendEvent(room.roomId, null, EventType.RoomMessage, { ...content, ...relation(room, context), "m.mentions": {} } as never);
    const picture = isPicture(file.type) ? await prepare(file).catch(() => null) : null;
    if (picture) {
        const { blob, width, height, thumbnail } = picture;
        const main = await media.upload(blob, encrypted, (part) => progress(part * 0.9));
        const small = thumbnail && (await media.upload(thumbnail.blob, encrypted));
        const thumbnail_info = thumbnail && { w: thumbnail.width, h: thumbnail.height, mimetype: thumbnail.blob.type, size: thumbnail.blob.size };
        const where = small && ("file" in small ? { thumbnail_file: small.file } : { thumbnail_url: small.url });
        await send({
            msgtype: MsgType.Image,
            body: namedFor(name, blob.type),
            filename: namedFor(name, blob.type),
            ...main,
            info: { w: width, h: height, mimetype: blob.type, size: blob.size, ...where, ...(small ? { thumbnail_info } : {}) },
        });
        return;
    }
    const main = await media.upload(file, encrypted, progress);
    const msgtype = file.type.startsWith("video/") ? MsgType.Video : file.type.startsWith("audio/") ? MsgType.Audio : MsgType.File;
    await send({ msgtype, body: name, filename: name, ...main, info: { mimetype: file.type || "application/octet-stream", size: file.size } });
}

export async function sendVoice(client: MatrixClient, media: Media, room: Room, blob: Blob, ms: number, waveform: number[], context: Context): Promise<void> {
    const main = await media.upload(blob, isEncrypted(room));
    await client.sendEvent(room.roomId, null, EventType.RoomMessage, {
        msgtype: MsgType.Audio,
        body: "Voice message",
        filename: namedFor("voice", blob.type),
        ...main,
        info: { mimetype: blob.type, size: blob.size, duration: ms },
        "org.matrix.msc1767.audio": { duration: ms, waveform },
        "org.matrix.msc3245.voice": {},
        ...relation(room, context),
        "m.mentions": {},
    } as never);
}

/** Adds a reaction, or takes one's own back. */
export async function react(client: MatrixClient, room: Room, event: MatrixEvent, key: string): Promise<void> {
    const own = reactionsOf(room, event, client.getSafeUserId()).find((each) => each.key === key)?.own;
    if (own) await client.redactEvent(room.roomId, own.getId()!);
    else {
        const content = { "m.relates_to": { rel_type: RelationType.Annotation as const, event_id: event.getId()!, key } };
        await client.sendEvent(room.roomId, null, EventType.Reaction, content as never);
    }
}

export interface Reaction {
    key: string;
    count: number;
    own: MatrixEvent | undefined;
    senders: string[];
}

const MAX_REACTIONS = 24;

export function reactionsOf(room: Room, event: MatrixEvent, me: string): Reaction[] {
    const relations = room.relations.getChildEventsForEvent(event.getId()!, RelationType.Annotation, EventType.Reaction);
    const sorted = relations?.getSortedAnnotationsByKey() ?? [];
    return sorted
        .map(([key, events]) => {
            const shown = [...events].filter((each) => !each.isRedacted() && each.status !== EventStatus.CANCELLED);
            const senders = [...new Set(shown.map((each) => each.getSender()!))];
            return { key, count: senders.length, own: shown.find((each) => each.getSender() === me), senders };
        })
        .filter(({ count, key }) => count > 0 && typeof key === "string")
        .slice(0, MAX_REACTIONS);
}

export async function takeBack(client: MatrixClient, room: Room, event: MatrixEvent): Promise<void> {
    if (event.status === EventStatus.NOT_SENT || event.status === EventStatus.QUEUED) client.cancelPendingEvent(event);
    else await client.redactEvent(room.roomId, event.getId()!);
}

/** Sends again what could not be sent, in order. */
export async function resendAll(client: MatrixClient): Promise<void> {
    for (const room of client.getRooms()) {
        for (const event of [...room.getPendingEvents()]) {
            if (event.status === EventStatus.NOT_SENT && event.getType() !== EventType.Reaction) await client.resendEvent(event, room).catch(() => {});
        }
    }
}
