/** What can be done with a message: react, answer, change, copy its link, delete. */
import { createEffect, createSignal, For, onCleanup, Show } from "solid-js";
import { EventStatus, EventType, MsgType, type MatrixEvent } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { webLink } from "../../lib/links.ts";
import { serverOf } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { react, takeBack } from "../../model/send.ts";
import { Icon, type IconName } from "../icons.tsx";
import { attempt, Confirm, copy, IconButton } from "../parts.tsx";
import { useRoom } from "./context.ts";

export const QUICK = ["👍", "❤️", "😂", "😮", "😢", "🎉"];

export function MessageTools(props: { event: MatrixEvent; onOpen: (open: boolean) => void }) {
    const { client } = useApp();
    const { room, changes, setActing, openThread, thread_id } = useRoom();
    const [open, setOpen] = createSignal(false);
    const [deleting, setDeleting] = createSignal(false);
    let place!: HTMLDivElement;
    let menu: HTMLDivElement | undefined;
    const me = client.getSafeUserId();
    const mine = props.event.getSender() === me;
    const sent = () => (changes(), props.event.getId()!.startsWith("$"));
    const gone = () => (changes(), props.event.isRedacted());
    const can = () => {
        changes();
        const { event } = props;
        const state = room.currentState;
        const speak = state.maySendMessage(me);
        const text = event.getType() === EventType.RoomMessage && [MsgType.Text, MsgType.Emote].includes(event.getContent().msgtype as MsgType);
        return {
            speak,
            edit: mine && speak && text && event.status !== EventStatus.NOT_SENT,
            remove: mine || state.maySendRedactionForEvent(event, me),
        };
    };
    createEffect(() => {
        props.onOpen(open());
        if (!open()) return;
        // In the top layer, so that nothing cuts it off; beside its button, within the window. It goes where the message goes, such as
        // when something new comes in below, and away with it.
        const scroller = place.closest(".timeline");
        function settle(): void {
            if (!menu) return;
            const [at, size, frame] = [place.getBoundingClientRect(), menu.getBoundingClientRect(), scroller?.getBoundingClientRect()];
            if (frame && (at.bottom < frame.top || at.top > frame.bottom)) return void setOpen(false);
            const below = at.bottom + size.height + 8 < innerHeight ? at.bottom : Math.max(8, at.top - size.height);
            const left = mine ? at.right - size.width : at.left;
            menu.style.top = `${Math.min(below, Math.max(8, innerHeight - size.height - 8))}px`;
            menu.style.left = `${Math.min(Math.max(8, left), innerWidth - size.width - 8)}px`;
        }
        queueMicrotask(() => {
            menu?.showPopover();
            settle();
        });
        const away = (event: Event) => !place.contains(event.target as Node) && setOpen(false);
        scroller?.addEventListener("scroll", settle, { passive: true });
        const key = (event: KeyboardEvent) => {
            if (event.key !== "Escape") return;
            setOpen(false);
            place.querySelector<HTMLElement>("[aria-expanded]")?.focus();
        };
        document.addEventListener("pointerdown", away);
        document.addEventListener("keydown", key);
        queueMicrotask(() => place.querySelector<HTMLElement>(".menu button")?.focus());
        onCleanup(() => {
            scroller?.removeEventListener("scroll", settle);
            document.removeEventListener("pointerdown", away);
            document.removeEventListener("keydown", key);
        });
    });
    const act = (work: () => unknown) => () => {
        setOpen(false);
        void work();
    };
    function Item(item: { icon: IconName; text: string; do: () => unknown; danger?: boolean }) {
        return <button type="button" role="menuitem" classList={{ danger: item.danger }} onClick={act(item.do)}><Icon name={item.icon} /> {item.text}</button>;
    }
    function move(event: KeyboardEvent): void {
        if (!["ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight"].includes(event.key)) return;
        const items = [...place.querySelectorAll<HTMLElement>(".menu button")];
        const step = event.key === "ArrowDown" || event.key === "ArrowRight" ? 1 : -1;
        items[(items.indexOf(document.activeElement as HTMLElement) + step + items.length) % items.length]?.focus();
        event.preventDefault();
    }

    return (
        <Show when={!gone()}>
            <div class="tools" ref={place}>
                <Show when={sent() && can().speak}>
                    <IconButton icon="reply" label={t("message.reply")} class="quick" onClick={() => setActing({ is: "replying", to: props.event })} />
                </Show>
                <IconButton icon="more" label={t("message.more_actions")} expanded={open()} onClick={() => setOpen(!open())} />
                <Show when={open()}>
                    <div class="menu" popover="manual" ref={menu} role="menu" aria-label={t("message.more_actions")} onKeyDown={move}>
                        <Show when={sent() && can().speak}>
                            <div class="quick-reactions">
                                <For each={QUICK}>{(key) => <button type="button" role="menuitem" aria-label={t("message.react", { key })} onClick={act(() => attempt(react(client, room, props.event, key)))}>{key}</button>}</For>
                            </div>
                            <Item icon="reply" text={t("message.reply")} do={() => setActing({ is: "replying", to: props.event })} />
                            <Show when={!thread_id}><Item icon="thread" text={t("message.thread")} do={() => openThread(props.event.threadRootId ?? props.event.getId()!)} /></Show>
                        </Show>
                        <Show when={can().edit}><Item icon="edit" text={t("message.edit")} do={() => setActing({ is: "editing", event: props.event })} /></Show>
                        <Show when={typeof props.event.getContent().body === "string"}><Item icon="copy" text={t("message.copy")} do={() => copy(String(props.event.getContent().body))} /></Show>
                        <Show when={sent()}><Item icon="link" text={t("message.link")} do={() => copy(webLink(room.roomId, props.event.getId(), [serverOf(me)]))} /></Show>
                        <Show when={can().remove}><Item icon="trash" danger text={t("message.delete")} do={() => setDeleting(true)} /></Show>
                    </div>
                </Show>
                <Show when={deleting()}>
                    <Confirm title={t("message.deleteTitle")} text={t("message.deleteText")} action={t("message.delete")} danger onConfirm={() => takeBack(client, room, props.event)} onClose={() => setDeleting(false)} />
                </Show>
            </div>
        </Show>
    );
}
