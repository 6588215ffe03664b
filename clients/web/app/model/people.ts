/** Who is near and who is known, asked of the node while somebody looks. */
import { createSignal, type Accessor } from "solid-js";
import type { Extension, Neighbour } from "./extension.ts";

const EVERY_MS = 5000;

export interface People {
    neighbours: Accessor<Neighbour[]>;
    /** Whether a server is near or reached directly at the moment; undefined where that is not known. */
    isNear(server_name: string): boolean | undefined;
    refresh(): Promise<void>;
    stop(): void;
}

export function createPeople(extension: Accessor<Extension | null>): People {
    const [neighbours, setNeighbours] = createSignal<Neighbour[]>([], { equals: (a, b) => JSON.stringify(a) === JSON.stringify(b) });
    const refresh = async () => {
        const found = extension();
        if (found && document.visibilityState === "visible") setNeighbours(await found.people().catch(() => neighbours()));
    };
    const timer = setInterval(() => void refresh(), EVERY_MS);
    return {
        neighbours,
        isNear: (server_name) => neighbours().find((each) => each.server_name === server_name)?.nearby,
        refresh,
        stop: () => clearInterval(timer),
    };
}
