/** The texts of messages that this device has seen, kept on it for searching: the homeserver cannot read them. */
import { EventType, MatrixEventEvent, RoomEvent, type MatrixClient, type MatrixEvent } from "matrix-js-sdk";
import { finished, store } from "../lib/database.ts";
import { withoutFallback } from "../lib/text.ts";

export interface Found {
    event_id: string;
    room_id: string;
    sender: string;
    ts: number;
    body: string;
}

export interface SearchIndex {
    /** The newest messages that hold every word. */
    find(query: string, room_id?: string): Promise<Found[]>;
    stop(): void;
}

const MAX_FOUND = 60;
const MAX_BODY = 4000;
const WRITE_AFTER_MS = 800;

export function createSearchIndex(client: MatrixClient): SearchIndex {
    const waiting = new Map<string, Found | null>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let all: Promise<Map<string, Found>> | undefined;

    function note(event_id: string, found: Found | null): void {
        waiting.set(event_id, found);
        timer ??= setTimeout(() => void write(), WRITE_AFTER_MS);
    }

    async function write(): Promise<void> {
        timer = undefined;
        const batch = [...waiting];
        waiting.clear();
        const known = await all;
        try {
            const messages = await store("messages", "readwrite");
            for (const [id, found] of batch) {
                if (found) messages.put(found);
                else messages.delete(id);
            }
        } catch {
            // Without the database only what was seen since the start is found.
        }
        for (const [id, found] of batch) {
            if (found) known?.set(id, found);
            else known?.delete(id);
        }
    }

    function take(event: MatrixEvent): void {
        const id = event.getId();
        if (!id?.startsWith("$") || event.getType() !== EventType.RoomMessage) return;
        if (event.isRedacted()) return note(id, null);
        const content = event.getContent();
        const replaces = event.isRelation("m.replace") ? event.getRelation()?.event_id : undefined;
        const body = replaces ? (content["m.new_content"] as { body?: unknown } | undefined)?.body : content.body;
        if (typeof body !== "string" || event.isDecryptionFailure()) return;
        const text = withoutFallback(body).slice(0, MAX_BODY);
        note(replaces ?? id, { event_id: replaces ?? id, room_id: event.getRoomId()!, sender: event.getSender()!, ts: event.getTs(), body: text });
    }

    const onRedaction = (event: MatrixEvent) => {
        const target = event.getAssociatedId();
        if (target) note(target, null);
    };
    client.on(RoomEvent.Timeline, take);
    client.on(MatrixEventEvent.Decrypted, take);
    client.on(RoomEvent.Redaction, onRedaction);
    for (const room of client.getRooms()) room.getLiveTimeline().getEvents().forEach(take);

    async function load(): Promise<Map<string, Found>> {
        const kept = (await finished((await store("messages", "readonly")).getAll()).catch(() => [])) as Found[];
        return new Map(kept.map((found) => [found.event_id, found]));
    }

    return {
        async find(query, room_id) {
            all ??= load();
            const known = await all;
            if (waiting.size) await write();
            const words = query.toLowerCase().split(/\s+/).filter(Boolean);
            if (!words.length) return [];
            const ignored = new Set(client.getIgnoredUsers());
            const hit = ({ body, room_id: room, sender }: Found) =>
                (!room_id || room === room_id) && !ignored.has(sender) && words.every((word) => body.toLowerCase().includes(word)) && client.getRoom(room) !== null;
            return [...known.values()].filter(hit).sort((a, b) => b.ts - a.ts).slice(0, MAX_FOUND);
        },
        stop() {
            clearTimeout(timer);
            client.off(RoomEvent.Timeline, take);
            client.off(MatrixEventEvent.Decrypted, take);
            client.off(RoomEvent.Redaction, onRedaction);
        },
    };
}
