/** Names of members, offered while one types `@`. */
import { createSignal, For, onCleanup } from "solid-js";
import type { Room } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { safeName } from "../../lib/names.ts";
import { Avatar } from "../Avatar.tsx";

export interface Mention {
    start: number;
    end: number;
    found: { user_id: string; name: string; avatar_url: string | null }[];
}

const MAX = 6;

/** The members whose names go on as what is typed before the caret does. */
export function mentionAt(text: string, caret: number, room: Room): Mention | null {
    const typed = /(?:^|\s)@([\p{L}\p{N}._-]{0,30})$/u.exec(text.slice(0, caret));
    if (!typed) return null;
    const begin = typed[1]!.toLowerCase();
    const found = [];
    for (const member of room.getJoinedMembers()) {
        const name = safeName(member.name, 60);
        if (!name.toLowerCase().startsWith(begin) && !member.userId.slice(1).startsWith(begin)) continue;
        found.push({ user_id: member.userId, name, avatar_url: member.getMxcAvatarUrl() ?? null });
        if (found.length === MAX) break;
    }
    return found.length ? { start: caret - typed[1]!.length - 1, end: caret, found } : null;
}

let onKey: ((event: KeyboardEvent) => boolean) | undefined;

export function MentionList(props: { open: Mention; onChoose: (user_id: string, name: string) => void; onClose: () => void }) {
    const [at, setAt] = createSignal(0);
    onKey = (event) => {
        const { found } = props.open;
        if (event.key === "ArrowDown" || event.key === "ArrowUp") setAt((at() + (event.key === "ArrowDown" ? 1 : found.length - 1)) % found.length);
        else if (event.key === "Enter" || event.key === "Tab") {
            const one = found[Math.min(at(), found.length - 1)]!;
            props.onChoose(one.user_id, one.name);
        } else if (event.key === "Escape") props.onClose();
        else return false;
        event.preventDefault();
        return true;
    };
    onCleanup(() => (onKey = undefined));
    return (
        <ul class="mention-list" role="listbox" aria-label={t("composer.mention")}>
            <For each={props.open.found}>
                {(one, i) => (
                    <li role="option" aria-selected={i() === at()} onPointerDown={(event) => {
                        event.preventDefault();
                        props.onChoose(one.user_id, one.name);
                    }}>
                        <Avatar id={one.user_id} name={one.name} url={one.avatar_url} size="small" /> <bdi>{one.name}</bdi>
                    </li>
                )}
            </For>
        </ul>
    );
}

/** Gives a key to the open list. Returns whether it was for it. */
MentionList.key = (event: KeyboardEvent): boolean => onKey?.(event) ?? false;
