/** How far one's own messages have got: told by the node where it can, and by read receipts. */
import { createSignal, type Accessor } from "solid-js";
import { EventStatus, type MatrixClient, type MatrixEvent, type Room } from "matrix-js-sdk";
import type { Extension, Reach } from "./extension.ts";

export type State =
    | { is: "sending" }
    | { is: "failed"; reason: string }
    /** On one's own homeserver. */
    | { is: "stored" }
    | { is: "waiting"; servers: { server_name: string; away_since_ms?: number }[]; count: number; delivered: number }
    | { is: "delivered" }
    | { is: "read"; by: number };

export interface Delivery {
    /** The state of one of one's own events. */
    of(event: MatrixEvent, room: Room): State;
    /** Asks the node about the latest of one's own events that are not delivered everywhere yet. */
    watch(room_id: string, events: MatrixEvent[]): void;
    stop(): void;
}

const EVERY_MS = 2500;
const MAX_EVENTS = 50;

export function createDelivery(client: MatrixClient, extension: Accessor<Extension | null>): Delivery {
    const reached = new Map<string, Reach>();
    const [version, setVersion] = createSignal(0);
    let watched: { room_id: string; ids: string[] } | undefined;
    let asking = false;

    async function ask(): Promise<void> {
        const found = extension();
        const open = watched?.ids.filter((id) => isOpen(reached.get(id)));
        if (!found || !watched || !open?.length || asking || document.visibilityState !== "visible") return;
        asking = true;
        const answer = await found.delivery(watched.room_id, open.slice(-MAX_EVENTS)).catch(() => ({}));
        asking = false;
        let changed = false;
        for (const [id, reach] of Object.entries(answer)) {
            changed ||= JSON.stringify(reached.get(id)) !== JSON.stringify(reach);
            reached.set(id, reach);
        }
        if (changed) setVersion((n) => n + 1);
    }
    const timer = setInterval(() => void ask(), EVERY_MS);

    return {
        of(event, room) {
            version();
            if (event.status === EventStatus.NOT_SENT) return { is: "failed", reason: event.error?.message ?? "" };
            if (event.status && event.status !== EventStatus.SENT) return { is: "sending" };
            const by = readersOf(event, room, client.getSafeUserId());
            if (by) return { is: "read", by };
            const reach = reached.get(event.getId()!);
            if (!reach || reach.total === 0) return { is: "stored" };
            const count = reach.waiting_count ?? reach.waiting.length;
            if (count > 0) return { is: "waiting", servers: reach.waiting, count, delivered: reach.total - count };
            return { is: "delivered" };
        },
        watch(room_id, events) {
            const ids = events.slice(-MAX_EVENTS).map((event) => event.getId()!).filter((id) => id.startsWith("$"));
            const fresh = ids.some((id) => !reached.has(id));
            watched = { room_id, ids };
            if (fresh) setTimeout(() => void ask(), 300);
        },
        stop: () => clearInterval(timer),
    };
}

/** How many others have read it. In large rooms only those count whose receipts stand right there. */
function readersOf(event: MatrixEvent, room: Room, me: string): number {
    const id = event.getId()!;
    if (room.getJoinedMemberCount() > MAX_EVENTS) return room.getUsersReadUpTo(event).filter((user) => user !== me).length;
    return room.getJoinedMembers().filter(({ userId }) => userId !== me && room.hasUserReadEvent(userId, id)).length;
}

function isOpen(reach: Reach | undefined): boolean {
    return !reach || (reach.waiting_count ?? reach.waiting.length) > 0;
}
