/** What the parts of an open conversation share. */
import { createContext, useContext, type Accessor } from "solid-js";
import type { MatrixEvent, Room } from "matrix-js-sdk";
import type { Timeline } from "../../model/timeline.ts";

export type Acting = { is: "writing" } | { is: "replying"; to: MatrixEvent } | { is: "editing"; event: MatrixEvent };

export interface InRoom {
    room: Room;
    changes: Accessor<number>;
    timeline: Timeline;
    /** The thread that is shown, where these parts are in one. */
    thread_id?: string;
    acting: Accessor<Acting>;
    setActing: (acting: Acting) => void;
    jump(event_id: string): void;
    openThread(id: string): void;
}

export const RoomContext = createContext<InRoom>();

export function useRoom(): InRoom {
    const found = useContext(RoomContext);
    if (!found) throw new Error("no conversation is open");
    return found;
}
