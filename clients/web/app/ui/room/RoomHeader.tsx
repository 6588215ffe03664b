/** The head of a conversation: who it is with, and how it stands. */
import { createMemo, Show } from "solid-js";
import { t, tn } from "../../i18n/index.ts";
import { go, roomPath, route } from "../../lib/router.ts";
import { safeName, serverOf, shortUser } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { directUser, isEncrypted } from "../../model/rooms.ts";
import { Avatar } from "../Avatar.tsx";
import { Icon } from "../icons.tsx";
import { useRoom } from "./context.ts";

export function RoomHeader() {
    const { client, people, conversations } = useApp();
    const { room, changes } = useRoom();
    const entry = createMemo(() => conversations.list.find((each) => each.room_id === room.roomId));
    const direct = createMemo(() => (changes(), directUser(client, room)));
    const name = () => entry()?.name ?? safeName(room.name);
    const near = () => (direct() ? people.isNear(serverOf(direct()!)) : undefined);
    const encrypted = createMemo(() => (changes(), isEncrypted(room)));
    const second = () => {
        const typing = entry()?.typing ?? [];
        if (typing.length) return tn("typing", typing.length, { names: typing.join(", ") });
        if (direct()) return near() ? t("near.here") : shortUser(direct()!);
        return tn("room.members", entry()?.members ?? room.getJoinedMemberCount());
    };
    const info = () => {
        const now = route();
        return now.at === "room" && now.panel === "info";
    };
    return (
        <header class="room-head">
            <a class="icon-button only-narrow" href="#/" aria-label={t("common.back")}><Icon name="back" /></a>
            <button
                type="button"
                class="room-title"
                aria-expanded={info()}
                title={t("info.title")}
                onClick={() => go(info() ? roomPath(room.roomId) : roomPath(room.roomId, "info"))}
            >
                <Avatar id={direct() ?? room.roomId} name={name()} url={entry()?.avatar_url} near={near()} group={!direct()} />
                <span class="room-names">
                    <span class="room-name"><bdi>{name()}</bdi></span>
                    <span class="room-second" classList={{ lively: Boolean(entry()?.typing.length) || near() === true }} aria-live="polite"><bdi>{second()}</bdi></span>
                </span>
            </button>
            <Show when={encrypted()} fallback={<span class="state-icon open" title={t("room.notEncrypted")}><Icon name="unlock" /><span class="visually-hidden">{t("room.notEncrypted")}</span></span>}>
                <span class="state-icon" title={t("room.encrypted")}><Icon name="lock" /><span class="visually-hidden">{t("room.encrypted")}</span></span>
            </Show>
        </header>
    );
}
