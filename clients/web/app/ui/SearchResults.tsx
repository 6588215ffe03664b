/** What a search finds: conversations, people, messages. All of it is looked up on this device. */
import { createEffect, createMemo, createSignal, For, onCleanup, Show } from "solid-js";
import { locale, t } from "../i18n/index.ts";
import { shortWhen } from "../lib/dates.ts";
import { keyed } from "../lib/keyed.ts";
import { localpart, safeName, shortUser } from "../lib/names.ts";
import { readMatrixLink } from "../lib/links.ts";
import { path, roomPath } from "../lib/router.ts";
import { useApp } from "../model/app.ts";
import type { Found } from "../model/search.ts";
import { Avatar } from "./Avatar.tsx";
import { Icon } from "./icons.tsx";
import { Spinner } from "./parts.tsx";
import { knownName } from "./profile.ts";

const MAX = 12;

export function SearchResults(props: { query: string }) {
    const { conversations, client, search, people } = useApp();
    const [messages, setMessages] = createSignal<Found[] | null>(null);
    const wanted = () => props.query.trim().toLowerCase();
    const rooms = createMemo(() => conversations.list.filter(({ name }) => name.toLowerCase().includes(wanted())).slice(0, MAX));
    const persons = keyed("user_id", () => {
        const known = new Map<string, { user_id: string; name: string; avatar_url: string | null }>();
        const add = (user_id: string, name: string | undefined, avatar_url: string | null | undefined) => {
            const shown = safeName(name ?? localpart(user_id), 60);
            if (user_id !== client.getUserId() && (shown.toLowerCase().includes(wanted()) || user_id.includes(wanted()))) known.set(user_id, { user_id, name: shown, avatar_url: avatar_url ?? null });
        };
        for (const { users } of people.neighbours()) users.forEach((user) => add(user.user_id, user.displayname, user.avatar_url));
        for (const user of client.getUsers()) add(user.userId, knownName(client, user.userId), user.avatarUrl);
        const exact = readMatrixLink(props.query);
        if (exact?.kind === "user") add(exact.id, undefined, null);
        return [...known.values()].slice(0, MAX);
    });
    createEffect(() => {
        const query = wanted();
        setMessages(null);
        let alive = true;
        const timer = setTimeout(() => void search.find(query).then((found) => alive && setMessages(found)), 150);
        onCleanup(() => {
            alive = false;
            clearTimeout(timer);
        });
    });
    const room = (id: string) => client.getRoom(id);
    const nothing = () => messages() !== null && !messages()!.length && !rooms().length && !persons().length;

    return (
        <div class="results" aria-live="polite">
            <Show when={rooms().length}>
                <h2>{t("search.rooms")}</h2>
                <For each={rooms()}>
                    {(each) => (
                        <a class="hit" href={roomPath(each.room_id)}>
                            <Avatar id={each.direct_user_id ?? each.room_id} name={each.name} url={each.avatar_url} size="small" group={!each.direct_user_id} />
                            <bdi>{each.name}</bdi>
                        </a>
                    )}
                </For>
            </Show>
            <Show when={persons().length}>
                <h2>{t("search.people")}</h2>
                <For each={persons()}>
                    {(each) => (
                        <a class="hit" href={path("user", each.user_id)}>
                            <Avatar id={each.user_id} name={each.name} url={each.avatar_url} size="small" />
                            <span class="hit-text"><bdi>{each.name}</bdi><span class="quiet">{shortUser(each.user_id)}</span></span>
                        </a>
                    )}
                </For>
            </Show>
            <Show when={messages()} fallback={<p class="sidebar-empty"><Spinner label={t("search.busy")} /></p>}>
                {(found) => (
                    <Show when={found().length}>
                        <h2>{t("search.messages")}</h2>
                        <For each={found()}>
                            {(each) => (
                                <a class="hit message-hit" href={roomPath(each.room_id, each.event_id)}>
                                    <span class="hit-text">
                                        <span class="hit-top">
                                            <bdi>{safeName(room(each.room_id)?.getMember(each.sender)?.name ?? localpart(each.sender), 40)}</bdi>
                                            <span class="quiet">{safeName(room(each.room_id)?.name ?? "", 40)}</span>
                                            <time>{shortWhen(each.ts, locale())}</time>
                                        </span>
                                        <Excerpt body={each.body} query={wanted()} />
                                    </span>
                                </a>
                            )}
                        </For>
                    </Show>
                )}
            </Show>
            <Show when={nothing()}>
                <p class="sidebar-empty"><Icon name="search" /> {t("search.nothing")}</p>
            </Show>
        </div>
    );
}

/** The words around the first hit. */
function Excerpt(props: { body: string; query: string }) {
    const parts = () => {
        const word = props.query.split(/\s+/)[0] ?? "";
        const at = Math.max(0, props.body.toLowerCase().indexOf(word));
        const from = Math.max(0, at - 30);
        return { before: (from ? "…" : "") + props.body.slice(from, at), hit: props.body.slice(at, at + word.length), after: props.body.slice(at + word.length, at + word.length + 100) };
    };
    return <span class="excerpt" dir="auto">{parts().before}<mark>{parts().hit}</mark>{parts().after}</span>;
}
