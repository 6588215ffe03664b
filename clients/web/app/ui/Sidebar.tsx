/** The list: conversations by recency, who is near, and search over all that is on this device. */
import { createEffect, createMemo, createSignal, For, on, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { route, roomPath } from "../lib/router.ts";
import { useApp } from "../model/app.ts";
import { Avatar } from "./Avatar.tsx";
import { Banners } from "./Banners.tsx";
import { ConversationRow } from "./ConversationRow.tsx";
import { Empty } from "./Empty.tsx";
import { Icon } from "./icons.tsx";
import { Logo } from "./Logo.tsx";
import { Near } from "./Near.tsx";
import { IconButton } from "./parts.tsx";
import { SearchResults } from "./SearchResults.tsx";
import { useProfile } from "./profile.ts";

const FIRST = 60;

export function Sidebar() {
    const { conversations, client } = useApp();
    const [query, setQuery] = createSignal("");
    const [shown, setShown] = createSignal(FIRST);
    const me = useProfile(() => client.getSafeUserId());
    const open = createMemo(() => {
        const now = route();
        return now.at === "room" ? now.room_id : null;
    });
    const visible = createMemo(() => conversations.list.slice(0, shown()));
    createEffect(on(open, () => setQuery(""), { defer: true }));

    function onKeys(event: KeyboardEvent): void {
        if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
        const links = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("a.conversation, a.hit")];
        const at = links.indexOf(document.activeElement as HTMLElement);
        links[at + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
        event.preventDefault();
    }

    return (
        <nav class="sidebar" aria-label={t("sidebar.label")} onKeyDown={onKeys}>
            <header class="sidebar-head">
                <a href="#/" class="brand" aria-label="kith"><Logo /><span class="wordmark">kith</span></a>
                <span class="grow" />
                <a class="icon-button" href="#/people" aria-label={t("add.person")} title={t("add.person")}><Icon name="plus" /></a>
                <a class="me" href="#/settings" aria-label={t("settings.title")} title={t("settings.title")}>
                    <Avatar id={client.getSafeUserId()} name={me().name} url={me().avatar_url} size="small" />
                </a>
            </header>
            <Banners inList />
            <div class="search-box">
                <Icon name="search" />
                <input
                    type="search"
                    value={query()}
                    placeholder={t("search.placeholder")}
                    aria-label={t("search.placeholder")}
                    onInput={(event) => setQuery(event.currentTarget.value)}
                    onKeyDown={(event) => event.key === "Escape" && setQuery("")}
                />
                <Show when={query()}>
                    <IconButton icon="close" label={t("search.clear")} onClick={() => setQuery("")} />
                </Show>
            </div>
            <div class="sidebar-scroll">
                <Show
                    when={query().trim().length > 0}
                    fallback={
                        <>
                            <Near />
                            <Show when={conversations.list.length} fallback={<><p class="sidebar-empty only-wide">{t("sidebar.empty")}</p><div class="only-narrow"><Empty /></div></>}>
                                <h2 class="visually-hidden">{t("sidebar.conversations")}</h2>
                                <ul class="conversations">
                                    <For each={visible()}>
                                        {(conversation) => (
                                            <li><ConversationRow conversation={conversation} open={open() === conversation.room_id} href={roomPath(conversation.room_id)} /></li>
                                        )}
                                    </For>
                                </ul>
                                <Show when={conversations.list.length > shown()}>
                                    <button type="button" class="link-button" onClick={() => setShown(shown() + 200)}>{t("sidebar.more")}</button>
                                </Show>
                            </Show>
                        </>
                    }
                >
                    <SearchResults query={query()} />
                </Show>
            </div>
        </nav>
    );
}
