/** What the parts of an open conversation share. */
import { createContext, useContext, type Accessor } from "solid-js";
import type { MatrixEvent, Room } from "matrix-js-sdk";
import type { Context } from "../../model/send.ts";
import type { Timeline } from "../../model/timeline.ts";
import type { Uploads } from "./uploads.ts";

export type Acting = { is: "writing" } | { is: "replying"; to: MatrixEvent } | { is: "editing"; event: MatrixEvent };

export interface InRoom {
    room: Room;
    changes: Accessor<number>;
    timeline: Timeline;
    /** The thread that is shown, where these parts are in one. */
    thread_id?: string;
    acting: Accessor<Acting>;
    setActing: (acting: Acting) => void;
    uploads: Uploads;
    jump(event_id: string): void;
    openThread(id: string): void;
}

export const RoomContext = createContext<InRoom>();

export function useRoom(): InRoom {
    const found = useContext(RoomContext);
    if (!found) throw new Error("no conversation is open");
    return found;
}

/** What is sent belongs to what the person is doing: an answer, a change, a thread. */
export function contextOf({ acting, thread_id }: InRoom): Context {
    const now = acting();
    return { thread_id: thread_id ?? null, reply: now.is === "replying" ? now.to : null, edit: now.is === "editing" ? now.event : null };
}

/** Sends files as what the person is doing, which is done with that. */
export function sendFiles(where: InRoom, files: File[]): void {
    where.uploads.send(files, contextOf(where));
    where.setActing({ is: "writing" });
}
