/** One message: who, what, when, and how far it has got. */
import { createMemo, createSignal, For, Show } from "solid-js";
import { EventStatus, type MatrixEvent } from "matrix-js-sdk";
import { locale, t, tn } from "../../i18n/index.ts";
import { dateAndTime, timeOf } from "../../lib/dates.ts";
import { keyed } from "../../lib/keyed.ts";
import { colourOf, localpart, safeName } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { nameOf, summaryOf } from "../../model/preview.ts";
import { reactionsOf, react } from "../../model/send.ts";
import { directUser } from "../../model/rooms.ts";
import { Avatar } from "../Avatar.tsx";
import { attempt } from "../parts.tsx";
import { Content } from "./Content.tsx";
import { DeliveryMark } from "./DeliveryMark.tsx";
import { MessageTools } from "./MessageTools.tsx";
import { Quote } from "./Quote.tsx";
import { useRoom } from "./context.ts";

export function Message(props: { event: MatrixEvent; first: boolean; last: boolean; marked: boolean }) {
    const { client } = useApp();
    const { room, changes, openThread, thread_id } = useRoom();
    const me = client.getSafeUserId();
    const sender = props.event.getSender()!;
    const mine = sender === me;
    const state = createMemo(() => {
        changes();
        const { event } = props;
        return {
            id: event.getId()!,
            name: nameOf(event, room),
            avatar: room.getMember(sender)?.getMxcAvatarUrl() ?? null,
            redacted: event.isRedacted(),
            edited: Boolean(event.replacingEventId()) && !event.isRedacted(),
            replyTo: event.replyEventId && !(event.threadRootId && event.getWireContent()["m.relates_to"]?.is_falling_back) ? event.replyEventId : null,
            status: event.status,
            ts: event.getTs(),
        };
    });
    const reactions = keyed("key", () => (changes(), state().id.startsWith("$") ? reactionsOf(room, props.event, me) : []));
    const thread = createMemo(() => {
        changes();
        const found = thread_id ? null : (props.event.getThread() ?? room.getThread(state().id));
        return found && found.length > 0 && found.id === state().id ? { count: found.length, last: found.replyToEvent } : null;
    });
    const [tools, setTools] = createSignal(false);
    const nameOfUser = (id: string) => safeName(room.getMember(id)?.name ?? localpart(id), 40);
    const group = () => !directUser(client, room);

    return (
        <article
            class="message"
            classList={{ mine, first: props.first, last: props.last, marked: props.marked, failed: state().status === EventStatus.NOT_SENT, "tools-open": tools() }}
            data-event-id={state().id}
            aria-label={t("message.label", { name: mine ? t("message.you") : state().name, time: dateAndTime(state().ts, locale()) })}
        >
            <Show when={!mine && group()}>
                <span class="message-avatar">
                    <Show when={props.last}><Avatar id={sender} name={state().name} url={state().avatar} size="small" /></Show>
                </span>
            </Show>
            <div class="message-column">
                <Show when={!mine && props.first && group()}>
                    <span class={`message-name ink-${colourOf(sender, 8)}`} title={sender}><bdi>{state().name}</bdi></span>
                </Show>
                <div class="bubble-row">
                    <div class="bubble">
                        <Show when={state().replyTo}>{(id) => <Quote event_id={id()} />}</Show>
                        <Show when={!state().redacted} fallback={<p class="body quiet italic">{t("event.deleted")}</p>}>
                            <Content event={props.event} />
                        </Show>
                        <span class="meta">
                            <Show when={state().edited}><span>{t("message.edited")}</span></Show>
                            <time dateTime={new Date(state().ts).toISOString()} title={dateAndTime(state().ts, locale())}>{timeOf(state().ts, locale())}</time>
                            <Show when={mine && !state().redacted}><DeliveryMark event={props.event} /></Show>
                        </span>
                    </div>
                    <MessageTools event={props.event} onOpen={setTools} />
                </div>
                <Show when={reactions().length}>
                    <div class="reactions">
                        <For each={reactions()}>
                            {(each) => (
                                <button
                                    type="button"
                                    class="reaction"
                                    classList={{ own: Boolean(each.own) }}
                                    aria-pressed={Boolean(each.own)}
                                    title={each.senders.slice(0, 20).map(nameOfUser).join(", ")}
                                    aria-label={tn("message.reaction", each.count, { key: safeName(each.key, 20) })}
                                    onClick={() => attempt(react(client, room, props.event, each.key))}
                                >
                                    <bdi>{safeName(each.key, 12) || "?"}</bdi> <span class="count">{each.count}</span>
                                </button>
                            )}
                        </For>
                    </div>
                </Show>
                <Show when={thread()}>
                    {(found) => (
                        <button type="button" class="thread-link" onClick={() => openThread(state().id)}>
                            <strong>{tn("thread.replies", found().count)}</strong>
                            <Show when={found().last}>{(last) => <span class="quiet"><bdi>{nameOf(last(), room)}: {summaryOf(last())}</bdi></span>}</Show>
                        </button>
                    )}
                </Show>
                <Show when={mine && props.last}><DeliveryMark event={props.event} words /></Show>
            </div>
        </article>
    );
}
