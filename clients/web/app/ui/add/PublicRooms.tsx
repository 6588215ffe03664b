/** Public groups of one's own node or of a named server: to look through, and to enter. */
import { createSignal, For, onMount, Show } from "solid-js";
import { KnownMembership, type IPublicRoomsChunkRoom } from "matrix-js-sdk";
import { t, tn } from "../../i18n/index.ts";
import { safeName, serverOf } from "../../lib/names.ts";
import { go, roomPath } from "../../lib/router.ts";
import { useApp } from "../../model/app.ts";
import { Avatar } from "../Avatar.tsx";
import { errorText, Field, say, Spinner } from "../parts.tsx";
import { Page } from "../Page.tsx";

const STEP = 30;

export function PublicRooms() {
    const { client } = useApp();
    const own = serverOf(client.getSafeUserId());
    const [server, setServer] = createSignal("");
    const [term, setTerm] = createSignal("");
    const [found, setFound] = createSignal<IPublicRoomsChunkRoom[]>([]);
    const [more, setMore] = createSignal<(() => Promise<void>) | null>(null);
    const [busy, setBusy] = createSignal(false);
    const [joining, setJoining] = createSignal("");
    const [problem, setProblem] = createSignal("");
    let asked = 0;
    let from = own;

    /** Asks for the first rooms, or for those that come `since`. Only the latest question is answered. */
    async function ask(where: string, wanted: string, since?: string): Promise<void> {
        const number = (asked += 1);
        setBusy(true);
        setProblem("");
        try {
            const answer = await client.publicRooms({
                limit: STEP,
                ...(where === own ? {} : { server: where }),
                ...(since ? { since } : {}),
                ...(wanted ? { filter: { generic_search_term: wanted } } : {}),
            });
            if (number !== asked) return;
            from = where;
            setFound((before) => [...(since ? before : []), ...answer.chunk.slice(0, STEP)]);
            const next = answer.next_batch;
            setMore(() => (next && next !== since ? () => ask(where, wanted, next) : null));
        } catch (error) {
            if (number !== asked) return;
            if (!since) setFound([]);
            setMore(null);
            setProblem(errorText(error));
        } finally {
            if (number === asked) setBusy(false);
        }
    }
    const search = () => ask(server().trim() || own, term().trim());
    onMount(() => void search());

    const isIn = (room_id: string) => client.getRoom(room_id)?.getMyMembership() === KnownMembership.Join;
    async function enter(room: IPublicRoomsChunkRoom): Promise<void> {
        setJoining(room.room_id);
        try {
            if (!isIn(room.room_id)) await client.joinRoom(room.canonical_alias ?? room.room_id, { viaServers: [from] });
            go(roomPath(room.room_id));
        } catch (error) {
            say(errorText(error), "error");
            setJoining("");
        }
    }
    const nameOf = (room: IPublicRoomsChunkRoom) => safeName(room.name ?? room.canonical_alias ?? room.room_id);
    return (
        <Page title={t("public.title")}>
            <form class="card" onSubmit={(event) => {
                event.preventDefault();
                void search();
            }}>
                <Field label={t("public.find")} value={term()} onInput={setTerm} maxLength={200} />
                <Field label={t("public.server")} value={server()} onInput={setServer} placeholder={own} hint={t("public.serverHint")} maxLength={255} />
                <button type="submit" class="button primary wide">{t("search.placeholder")}</button>
            </form>
            <section class="card" aria-busy={busy()} aria-live="polite">
                <Show when={problem()}><p class="problem" role="alert">{problem()}</p></Show>
                <Show when={!busy() && !problem() && !found().length}><p class="quiet">{t("public.nothing")}</p></Show>
                <ul class="person-list public-rooms">
                    <For each={found()}>
                        {(room) => (
                            <li class="person">
                                <Avatar id={room.room_id} name={nameOf(room)} url={room.avatar_url} size="small" group />
                                <span class="hit-text">
                                    <bdi>{nameOf(room)}</bdi>
                                    <Show when={room.topic}>{(topic) => <span class="quiet small" dir="auto">{safeName(topic(), 200)}</span>}</Show>
                                    <span class="quiet small">{tn("room.members", room.num_joined_members)}</span>
                                </span>
                                <button type="button" class="button small" disabled={joining() === room.room_id} onClick={() => void enter(room)}>{isIn(room.room_id) ? t("public.open") : t("room.join")}</button>
                            </li>
                        )}
                    </For>
                </ul>
                <Show when={busy()}><Spinner /></Show>
                <Show when={!busy() && more()}>{(next) => <button type="button" class="link-button" onClick={() => void next()()}>{t("sidebar.more")}</button>}</Show>
            </section>
        </Page>
    );
}
