/** One conversation in the list. */
import { Show } from "solid-js";
import { locale, t, tn } from "../i18n/index.ts";
import { shortWhen } from "../lib/dates.ts";
import { serverOf } from "../lib/names.ts";
import { useApp } from "../model/app.ts";
import type { Conversation } from "../model/conversations.ts";
import { Avatar } from "./Avatar.tsx";
import { Icon } from "./icons.tsx";

export function ConversationRow(props: { conversation: Conversation; open: boolean; href: string }) {
    const { people } = useApp();
    const c = () => props.conversation;
    const near = () => (c().direct_user_id ? people.isNear(serverOf(c().direct_user_id!)) : undefined);
    const line = () => {
        if (c().membership === "invite") return t("sidebar.invited");
        if (c().typing.length) return tn("typing", c().typing.length, { names: c().typing.join(", ") });
        if (c().draft && !props.open) return t("sidebar.draft", { text: c().draft });
        return c().preview;
    };
    return (
        <a class="conversation" classList={{ open: props.open, unread: c().unread > 0, invite: c().membership === "invite" }} href={props.href} aria-current={props.open ? "page" : undefined}>
            <Avatar id={c().direct_user_id ?? c().room_id} name={c().name} url={c().avatar_url} near={near()} group={!c().direct_user_id} />
            <span class="conversation-text">
                <span class="conversation-top">
                    <span class="conversation-name"><bdi>{c().name}</bdi></span>
                    <Show when={c().favourite}><Icon name="star" class="tiny" /></Show>
                    <Show when={c().muted}><Icon name="bellOff" class="tiny" /></Show>
                    <time class="conversation-time" dateTime={new Date(c().ts || 0).toISOString()}>{c().ts ? shortWhen(c().ts, locale()) : ""}</time>
                </span>
                <span class="conversation-bottom">
                    <span class="conversation-preview" classList={{ lively: c().typing.length > 0 || c().membership === "invite" }}><bdi>{line()}</bdi></span>
                    <Show when={c().failed}><Icon name="alert" class="tiny failed" /></Show>
                    <Show when={c().membership === "invite"}><span class="badge dot" /></Show>
                    <Show when={c().unread > 0}>
                        <span class="badge" classList={{ muted: c().muted }}>
                            <span aria-hidden="true">{c().unread > 99 ? "99+" : c().unread}</span>
                            <span class="visually-hidden">{tn("sidebar.unread", c().unread)}</span>
                        </span>
                    </Show>
                </span>
            </span>
        </a>
    );
}
