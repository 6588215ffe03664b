/** Files on their way from an open conversation, whether picked, pasted or dropped. */
import { createStore } from "solid-js/store";
import type { Room } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import type { App } from "../../model/app.ts";
import { sendFile, type Context } from "../../model/send.ts";
import { errorText, say } from "../parts.tsx";

export interface Running {
    id: number;
    name: string;
    part: number;
}

export interface Uploads {
    running(): Running[];
    /** Sends files, one after the other, in their order. */
    send(files: File[], context: Context): void;
}

const MAX_AT_ONCE = 30;
let numbers = 0;

export function createUploads({ client, media }: App, room: Room): Uploads {
    const [state, setState] = createStore<{ running: Running[] }>({ running: [] });

    async function one(file: File, context: Context): Promise<void> {
        const id = (numbers += 1);
        setState("running", (all) => [...all, { id, name: file.name, part: 0 }]);
        try {
            await sendFile(client, media, room, file, context, (part) => setState("running", (each) => each.id === id, "part", part));
        } catch (error) {
            say(t("composer.fileFailed", { name: file.name.slice(0, 60), reason: errorText(error) }), "error");
        } finally {
            setState("running", (all) => all.filter((each) => each.id !== id));
        }
    }

    return {
        running: () => state.running,
        send(files, context) {
            void (async () => {
                for (const file of files.slice(0, MAX_AT_ONCE)) await one(file, context);
            })();
        },
    };
}
