/** A conversation's events as rows, grown at both ends; follows what comes in. */
import { createMemo, createSignal, onCleanup, type Accessor } from "solid-js";
import {
    Direction, TimelineWindow, RoomEvent, type MatrixClient, type MatrixEvent, type Room, type EventTimelineSet,
} from "matrix-js-sdk";
import { rowsOf, type Row } from "./rows.ts";
import { isInThread, kindOf } from "./kinds.ts";

const FIRST = 60;
const STEP = 80;

export interface Timeline {
    rows: Accessor<Row[]>;
    /** Whether rows came in at the start since the last time (the list keeps its place then). */
    grewAtStart: Accessor<boolean>;
    loading: Accessor<boolean>;
    /** Whether the newest event of the conversation is among the rows. */
    live: Accessor<boolean>;
    /** Whether the beginning of the conversation is. */
    complete: Accessor<boolean>;
    /** What went wrong with loading, if anything did. */
    failed: Accessor<boolean>;
    older(): Promise<void>;
    newer(): Promise<void>;
    /** Goes to a place in history. */
    show(event_id: string | null): Promise<void>;
    /** The event itself, if it is among the rows. */
    find(event_id: string): MatrixEvent | undefined;
}

export interface TimelineOptions {
    /** Follows everything that happens in the room. */
    changes: Accessor<number>;
    /** The first event that was not read when the conversation was opened. */
    unreadAfter: string | null;
    /** For a thread: its events alone. */
    thread?: EventTimelineSet;
}

export function createTimeline(client: MatrixClient, room: Room, options: TimelineOptions): Timeline {
    const set = options.thread ?? room.getUnfilteredTimelineSet();
    const frame = () => new TimelineWindow(client, set, { windowLimit: 1_000_000 });
    let window_ = frame();
    const [version, setVersion] = createSignal(0);
    const [loading, setLoading] = createSignal(true);
    const [failed, setFailed] = createSignal(false);
    const [grewAtStart, setGrewAtStart] = createSignal(false);
    const [live, setLive] = createSignal(true);
    const [complete, setComplete] = createSignal(false);
    const changed = () => setVersion((n) => n + 1);

    function look(): void {
        setLive(!window_.canPaginate(Direction.Forward));
        setComplete(!window_.canPaginate(Direction.Backward));
    }

    const events = createMemo(() => {
        version();
        options.changes();
        const ignored = new Set(client.getIgnoredUsers());
        const inThread = Boolean(options.thread);
        const shown = (event: MatrixEvent) =>
            kindOf(event) !== "hidden" && (inThread || !isInThread(event)) && !(ignored.has(event.getSender()!) && !event.isState());
        const pending = live() ? room.getPendingEvents().filter((event) => (inThread ? event.threadRootId === threadId(options.thread) : true)) : [];
        return [...window_.getEvents(), ...pending].filter(shown);
    });
    const rows = createMemo<Row[]>((before) => rowsOf(events(), options.unreadAfter, before), []);

    // Reading the timeline's events in an effect of every change would be slow: the window takes in what is new by itself.
    const onTimeline = (event: MatrixEvent, where?: Room, toStart?: boolean) => {
        if (where?.roomId !== room.roomId || toStart) return;
        if (live()) void window_.paginate(Direction.Forward, 10, false).then(changed, () => {});
        void event;
    };
    const onReset = (_: unknown, timelineSet: EventTimelineSet) => {
        if (timelineSet === set) void show(null);
    };
    client.on(RoomEvent.Timeline, onTimeline);
    room.on(RoomEvent.TimelineReset, onReset as never);
    onCleanup(() => {
        client.off(RoomEvent.Timeline, onTimeline);
        room.off(RoomEvent.TimelineReset, onReset as never);
    });

    let turns = 0;
    async function show(event_id: string | null): Promise<void> {
        const turn = (turns += 1);
        setLoading(true);
        setFailed(false);
        const next = frame();
        let failed = false;
        try {
            await next.load(event_id ?? undefined, FIRST);
        } catch {
            failed = true;
            // Where that place cannot be shown, the newest is.
            await next.load(undefined, FIRST);
        }
        // Meanwhile one may have gone elsewhere, or the room's timeline may have begun anew.
        if (turn !== turns) return;
        window_ = next;
        setFailed(failed);
        setGrewAtStart(false);
        look();
        setLoading(false);
        changed();
        // A conversation of many hidden events would else begin as an empty page.
        if (events().length < 20 && !complete()) await older();
    }

    async function grow(direction: Direction): Promise<void> {
        if (loading() || !window_.canPaginate(direction)) return;
        setLoading(true);
        setFailed(false);
        try {
            const before = events().length;
            for (let tries = 0; tries < 5; tries += 1) {
                await window_.paginate(direction, STEP);
                setGrewAtStart(direction === Direction.Backward);
                look();
                changed();
                if (events().length - before >= 10 || !window_.canPaginate(direction)) break;
            }
        } catch {
            setFailed(true);
        } finally {
            setLoading(false);
        }
    }

    const older = () => grow(Direction.Backward);
    return {
        rows,
        grewAtStart,
        loading,
        live,
        complete,
        failed,
        older,
        newer: () => grow(Direction.Forward),
        show,
        find: (event_id) => events().find((event) => event.getId() === event_id),
    };
}

function threadId(set: EventTimelineSet | undefined): string | undefined {
    return set?.thread?.id;
}
