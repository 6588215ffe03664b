/** The rows of a conversation: its events, with days, and the line where the unread begin, between them. */
import type { MatrixEvent } from "matrix-js-sdk";
import { dayKey } from "../lib/dates.ts";
import { kindOf } from "./kinds.ts";

export type Row =
    | { kind: "day"; id: string; ts: number }
    | { kind: "unread"; id: string }
    | { kind: "message"; id: string; event: MatrixEvent; first: boolean; last: boolean }
    | { kind: "notice"; id: string; event: MatrixEvent };

/** Messages of one person within this time belong together. */
const TOGETHER_MS = 5 * 60_000;

/** Rows that say the same as before are the same objects, so that nothing is drawn anew. */
export function rowsOf(events: MatrixEvent[], unreadAfter: string | null, before: Row[] = []): Row[] {
    const known = new Map(before.map((row) => [row.id, row]));
    const rows: Row[] = [];
    const add = (row: Row) => {
        const same = known.get(row.id);
        rows.push(same && isSame(same, row) ? same : row);
    };
    let passed = false;
    const facts = events.map((event) => ({ event, sender: event.getSender(), ts: event.getTs(), day: dayKey(event.getTs()), message: kindOf(event) === "message" }));
    facts.forEach((fact, i) => {
        const { event, ts, day, message } = fact;
        const previous = facts[i - 1];
        if (previous?.day !== day) add({ kind: "day", id: `day ${day} ${previous ? event.getId() : ""}`, ts });
        if (passed) {
            add({ kind: "unread", id: "unread" });
            passed = false;
        }
        if (unreadAfter && event.getId() === unreadAfter && i < events.length - 1) passed = true;
        const id = event.getTxnId() ?? event.getUnsigned().transaction_id ?? event.getId()!;
        if (message) add({ kind: "message", id, event, first: !belongs(previous, fact), last: !belongs(fact, facts[i + 1]) });
        else add({ kind: "notice", id, event });
    });
    return rows;
}

interface Fact {
    sender: string | undefined;
    ts: number;
    day: string;
    message: boolean;
}

function belongs(one: Fact | undefined, next: Fact | undefined): boolean {
    return Boolean(one && next && one.sender === next.sender && one.message && next.message && next.ts - one.ts < TOGETHER_MS && one.day === next.day);
}

function isSame(a: Row, b: Row): boolean {
    if (a.kind !== b.kind) return false;
    if (a.kind === "message" && b.kind === "message") return a.event === b.event && a.first === b.first && a.last === b.last;
    if (a.kind === "notice" && b.kind === "notice") return a.event === b.event;
    return true;
}
