/** A thread, beside its conversation. */
import { createEffect, createSignal, onMount, Show } from "solid-js";
import type { Room, Thread } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { roomPath } from "../../lib/router.ts";
import { useApp } from "../../model/app.ts";
import { createTimeline } from "../../model/timeline.ts";
import { Icon } from "../icons.tsx";
import { Spinner } from "../parts.tsx";
import { Composer } from "./Composer.tsx";
import { DropZone } from "./DropZone.tsx";
import { RoomContext, useRoom, type Acting } from "./context.ts";
import { Message } from "./Message.tsx";
import { TimelineList } from "./TimelineList.tsx";
import { createUploads } from "./uploads.ts";

export function ThreadPanel(props: { room: Room; thread_id: string }) {
    const { changes } = useRoom();
    const [thread, setThread] = createSignal<Thread | null>(null);
    createEffect(() => {
        changes();
        const found = props.room.getThread(props.thread_id);
        if (found) setThread(found);
    });
    return (
        <aside class="side-panel thread-panel" aria-label={t("thread.title")}>
            <header class="side-head">
                <a class="icon-button" href={roomPath(props.room.roomId)} aria-label={t("common.close")}><Icon name="close" /></a>
                <h2>{t("thread.title")}</h2>
            </header>
            <Show when={thread()} keyed fallback={<NewThread room={props.room} thread_id={props.thread_id} />}>
                {(found) => <Inside room={props.room} thread={found} />}
            </Show>
        </aside>
    );
}

function Inside(props: { room: Room; thread: Thread }) {
    const app = useApp();
    const { client } = app;
    const outer = useRoom();
    const timeline = createTimeline(client, props.room, { changes: outer.changes, unreadAfter: null, thread: props.thread.timelineSet });
    const [acting, setActing] = createSignal<Acting>({ is: "writing" });
    const [target, setTarget] = createSignal<{ id: string | null; tick: number }>({ id: null, tick: 0 });
    onMount(() => void timeline.show(null).then(() => setTarget({ id: null, tick: 1 })));
    const context = { ...outer, timeline, acting, setActing, uploads: createUploads(app, props.room), thread_id: props.thread.id, jump: (id: string) => setTarget(({ tick }) => ({ id, tick: tick + 1 })) };
    return (
        <RoomContext.Provider value={context}>
            <DropZone class="thread-inside">
                <TimelineList target={target()} label={t("thread.title")} onLatest={() => void timeline.show(null)} />
                <Composer />
            </DropZone>
        </RoomContext.Provider>
    );
}

/** A thread that has no answers yet. */
function NewThread(props: { room: Room; thread_id: string }) {
    const outer = useRoom();
    const uploads = createUploads(useApp(), props.room);
    const [acting, setActing] = createSignal<Acting>({ is: "writing" });
    const root = () => (outer.changes(), props.room.findEventById(props.thread_id));
    return (
        <RoomContext.Provider value={{ ...outer, acting, setActing, uploads, thread_id: props.thread_id }}>
            <DropZone class="thread-inside">
                <div class="thread-root">
                    <Show when={root()} fallback={<Spinner />}>{(event) => <Message event={event()} first last marked={false} />}</Show>
                    <p class="quiet small">{t("thread.new")}</p>
                </div>
                <Composer />
            </DropZone>
        </RoomContext.Provider>
    );
}
