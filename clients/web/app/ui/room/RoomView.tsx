/** An open conversation: its head, what was said, where one writes; beside it its details or a thread. */
import { createEffect, createMemo, createSignal, Match, on, onCleanup, onMount, Show, Switch } from "solid-js";
import { KnownMembership, ReceiptType, type MatrixEvent, type Room } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { localpart, safeName } from "../../lib/names.ts";
import { route, roomPath, go } from "../../lib/router.ts";
import { useApp } from "../../model/app.ts";
import { createTimeline } from "../../model/timeline.ts";
import { roomComes } from "../../model/rooms.ts";
import { Icon } from "../icons.tsx";
import { errorText } from "../parts.tsx";
import { Waiting } from "../Root.tsx";
import { RoomInfo } from "../info/RoomInfo.tsx";
import { Composer } from "./Composer.tsx";
import { DropZone } from "./DropZone.tsx";
import { Invitation } from "./Invitation.tsx";
import { RoomHeader } from "./RoomHeader.tsx";
import { RoomContext, type Acting } from "./context.ts";
import { ThreadPanel } from "./ThreadPanel.tsx";
import { TimelineList } from "./TimelineList.tsx";
import { createUploads } from "./uploads.ts";
import { UpgradeBanner } from "./UpgradeBanner.tsx";

export function RoomView(props: { room_id: string }) {
    const { client, conversations } = useApp();
    const [room, setRoom] = createSignal<Room | null>(client.getRoom(props.room_id));
    const [missing, setMissing] = createSignal(false);
    onMount(() => {
        if (!room()) void roomComes(client, props.room_id).then((found) => (found ? setRoom(found) : setMissing(true)));
    });
    const membership = createMemo(() => {
        conversations.changes(props.room_id);
        return room()?.getMyMembership();
    });
    return (
        <Show when={room()} fallback={<Show when={missing()} fallback={<Waiting text={t("room.opening")} />}><NotIn room_id={props.room_id} room={null} /></Show>}>
            {(found) => (
                <Switch fallback={<NotIn room_id={props.room_id} room={found()} />}>
                    <Match when={membership() === KnownMembership.Invite}><Invitation room={found()} /></Match>
                    <Match when={membership() === KnownMembership.Join}><Joined room={found()} /></Match>
                </Switch>
            )}
        </Show>
    );
}

function NotIn(props: { room_id: string; room: Room | null }) {
    const { client, conversations } = useApp();
    const [problem, setProblem] = createSignal("");
    const join = () => client.joinRoom(props.room_id).catch((error: unknown) => setProblem(errorText(error)));
    /** How one came to be outside, if somebody else did that. */
    const put = createMemo(() => {
        conversations.changes(props.room_id);
        const own = props.room?.getMember(client.getSafeUserId());
        const by = own?.events.member?.getSender();
        if (!own || !by || by === own.userId) return null;
        const name = safeName(props.room!.getMember(by)?.name ?? localpart(by), 60);
        if (own.membership === KnownMembership.Ban) return { text: t("room.banned", { name }), banned: true };
        return own.membership === KnownMembership.Leave ? { text: t("room.removed", { name }), banned: false } : null;
    });
    return (
        <section class="empty">
            <Icon name="leave" class="large" />
            <h1>{t("room.notIn")}</h1>
            <p>{problem() || put()?.text || t("room.notInText")}</p>
            <div class="actions centred">
                <a class="button" href="#/">{t("common.back")}</a>
                <Show when={!put()?.banned}><button type="button" class="button primary" onClick={() => void join()}>{t("room.join")}</button></Show>
            </div>
        </section>
    );
}

function Joined(props: { room: Room }) {
    const app = useApp();
    const { client, conversations, delivery } = app;
    const { room } = props;
    const changes = () => conversations.changes(room.roomId);
    const me = client.getSafeUserId();
    const unreadAfter = room.getUnreadNotificationCount() > 0 ? room.getEventReadUpTo(me) : null;
    const timeline = createTimeline(client, room, { changes, unreadAfter });
    const [acting, setActing] = createSignal<Acting>({ is: "writing" });
    const [target, setTarget] = createSignal<{ id: string | null; tick: number }>({ id: null, tick: 0 });
    const panel = createMemo(() => {
        const now = route();
        return now.at === "room" ? now : null;
    });

    const place = createMemo(() => panel()?.event_id ?? null);
    async function jump(event_id: string | null): Promise<void> {
        if (!event_id || !timeline.find(event_id)) await timeline.show(event_id);
        setTarget(({ tick }) => ({ id: event_id, tick: tick + 1 }));
    }
    createEffect(on(place, (event_id) => void jump(event_id)));

    // Read is what was seen: the newest event, while this conversation is looked at.
    let sentFor: string | undefined;
    function markRead(): void {
        if (document.visibilityState !== "visible" || !timeline.live()) return;
        const events = room.getLiveTimeline().getEvents();
        const last = [...events].reverse().find((event) => event.getId()?.startsWith("$") && !event.status);
        if (!last || last.getId() === sentFor) return;
        sentFor = last.getId();
        void client.sendReadReceipt(last, localStorage.getItem("kith.receipts") === "private" ? ReceiptType.ReadPrivate : ReceiptType.Read).catch(() => (sentFor = undefined));
    }
    createEffect(() => {
        changes();
        timeline.rows();
        markRead();
    });
    document.addEventListener("visibilitychange", markRead);
    onCleanup(() => document.removeEventListener("visibilitychange", markRead));

    createEffect(() => {
        const own = timeline.rows().filter((row) => row.kind === "message" && row.event.getSender() === me && !row.event.status);
        delivery.watch(room.roomId, own.slice(-30).map((row) => (row as { event: MatrixEvent }).event));
    });

    let frame!: HTMLDivElement;
    /** Escape closes what stands beside the conversation, unless it closes something smaller there. */
    function onKeyDown(event: KeyboardEvent): void {
        const at = event.target as Element;
        if (event.key !== "Escape" || !at.closest(".side-panel") || at.closest("dialog, .menu, .emoji-picker, textarea")) return;
        go(roomPath(room.roomId));
        frame.querySelector<HTMLElement>(".room-title")?.focus();
    }

    const context = {
        room, changes, timeline, acting, setActing, uploads: createUploads(app, room),
        jump: (event_id: string) => (event_id === place() ? void jump(event_id) : go(roomPath(room.roomId, event_id))),
        openThread: (id: string) => go(roomPath(room.roomId, "thread", id)),
    };
    return (
        <RoomContext.Provider value={context}>
            <div class="room" ref={frame} classList={{ "with-panel": Boolean(panel()?.panel) }} onKeyDown={onKeyDown}>
                <DropZone class="room-main">
                    <RoomHeader />
                    <UpgradeBanner room={room} />
                    <TimelineList target={target()} label={t("room.messages")} onLatest={() => {
                        if (place()) go(roomPath(room.roomId), true);
                        void jump(null);
                    }} />
                    <Composer />
                </DropZone>
                <Show when={panel()?.panel === "info"}><RoomInfo room={room} /></Show>
                <Show when={panel()?.panel === "thread" ? panel()!.thread_id : null} keyed>{(id) => <ThreadPanel room={room} thread_id={id} />}</Show>
            </div>
        </RoomContext.Provider>
    );
}
