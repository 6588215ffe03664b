/** What a room is: picture, name, topic, who is in it, who may do what, how one comes in, and the ways out. */
import { createMemo, createSignal, Show } from "solid-js";
import { EventType, JoinRule, type Room } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { safeName, serverOf } from "../../lib/names.ts";
import { webLink } from "../../lib/links.ts";
import { go, path, roomPath } from "../../lib/router.ts";
import { prepareAvatar } from "../../lib/pictures.ts";
import { useApp } from "../../model/app.ts";
import { directUser, isEncrypted, isFavourite, isMuted, leave, setFavourite, setMuted, setOpen } from "../../model/rooms.ts";
import { Avatar } from "../Avatar.tsx";
import { Icon } from "../icons.tsx";
import { attempt, Confirm, copy, Field, Switch } from "../parts.tsx";
import { useRoom } from "../room/context.ts";
import { InviteDialog } from "./InviteDialog.tsx";
import { Members } from "./Members.tsx";

export function RoomInfo(props: { room: Room }) {
    const { client, media } = useApp();
    const { changes } = useRoom();
    const { room } = props;
    const me = client.getSafeUserId();
    const [editing, setEditing] = createSignal(false);
    const [inviting, setInviting] = createSignal(false);
    const [asking, setAsking] = createSignal<"leave" | "encrypt" | null>(null);
    const [name, setName] = createSignal("");
    const [topic, setTopic] = createSignal("");
    let picture!: HTMLInputElement;
    const state = createMemo(() => {
        changes();
        const current = room.currentState;
        const may = (type: string) => current.maySendStateEvent(type, me);
        return {
            name: safeName(room.name),
            topic: String(current.getStateEvents(EventType.RoomTopic, "")?.getContent().topic ?? "").slice(0, 2000),
            avatar: room.getMxcAvatarUrl(),
            direct: directUser(client, room),
            encrypted: isEncrypted(room),
            public: room.getJoinRule() === JoinRule.Public,
            alias: room.getCanonicalAlias(),
            muted: isMuted(client, room.roomId),
            favourite: isFavourite(room),
            version: room.getVersion(),
            may: { name: may(EventType.RoomName), topic: may(EventType.RoomTopic), avatar: may(EventType.RoomAvatar), rules: may(EventType.RoomJoinRules), encrypt: may(EventType.RoomEncryption), invite: room.canInvite(me) },
        };
    });
    async function save(event: Event): Promise<void> {
        event.preventDefault();
        if (name().trim() !== state().name) await client.setRoomName(room.roomId, name().trim());
        if (topic().trim() !== state().topic) await client.setRoomTopic(room.roomId, topic().trim());
        setEditing(false);
    }
    async function setPicture(file: File): Promise<void> {
        const made = await media.upload(await prepareAvatar(file), false);
        await client.sendStateEvent(room.roomId, EventType.RoomAvatar, { url: "url" in made ? made.url : "" }, "");
    }
    return (
        <aside class="side-panel" aria-label={t("info.title")}>
            <header class="side-head">
                <a class="icon-button" href={roomPath(room.roomId)} aria-label={t("common.close")}><Icon name="close" /></a>
                <h2>{t("info.title")}</h2>
            </header>
            <div class="side-body">
                <section class="info-top">
                    <button type="button" class="avatar-button" disabled={!state().may.avatar || Boolean(state().direct)} aria-label={t("info.picture")} onClick={() => picture.click()}>
                        <Avatar id={state().direct ?? room.roomId} name={state().name} url={(state().direct && room.getMember(state().direct!)?.getMxcAvatarUrl()) || state().avatar} size="huge" group={!state().direct} />
                    </button>
                    <input ref={picture} type="file" accept="image/*" hidden aria-label={t("info.picture")} onChange={(event) => event.currentTarget.files?.[0] && attempt(setPicture(event.currentTarget.files[0]))} />
                    <Show
                        when={editing()}
                        fallback={
                            <>
                                <h3 class="big"><bdi>{state().name}</bdi></h3>
                                <Show when={state().topic}><p class="topic" dir="auto">{state().topic}</p></Show>
                                <Show when={state().direct}>{(user) => <a class="address-button" href={path("user", user())}>{user()}</a>}</Show>
                                <Show when={(state().may.name || state().may.topic) && !state().direct}>
                                    <button type="button" class="link-button" onClick={() => {
                                        setName(state().name);
                                        setTopic(state().topic);
                                        setEditing(true);
                                    }}>{t("info.edit")}</button>
                                </Show>
                            </>
                        }
                    >
                        <form onSubmit={(event) => attempt(save(event))}>
                            <Show when={state().may.name}><Field label={t("group.name")} value={name()} onInput={setName} maxLength={100} autofocus /></Show>
                            <Show when={state().may.topic}><Field label={t("group.topic")} value={topic()} onInput={setTopic} multiline maxLength={2000} /></Show>
                            <div class="actions"><button type="button" class="button" onClick={() => setEditing(false)}>{t("common.cancel")}</button><button type="submit" class="button primary">{t("common.save")}</button></div>
                        </form>
                    </Show>
                </section>
                <section class="info-part">
                    <p class="fact" classList={{ good: state().encrypted }}>
                        <Icon name={state().encrypted ? "lock" : "unlock"} /> <span>{state().encrypted ? t("info.encrypted") : t("info.notEncrypted")}</span>
                    </p>
                    <Show when={!state().encrypted && state().may.encrypt && !state().public}>
                        <button type="button" class="button small" onClick={() => setAsking("encrypt")}>{t("info.encrypt")}</button>
                    </Show>
                    <Show when={!state().direct}>
                        <p class="fact"><Icon name={state().public ? "globe" : "key"} /> <span>{state().public ? t("info.public") : t("info.private")}</span></p>
                        <Show when={state().may.rules}>
                            <Switch label={t("group.open")} checked={state().public} onChange={(on) => attempt(setOpen(client, room, on))} />
                        </Show>
                    </Show>
                    <Switch label={t("info.favourite")} checked={state().favourite} onChange={(on) => attempt(setFavourite(client, room, on))} />
                    <Switch label={t("info.mute")} checked={state().muted} onChange={(on) => attempt(setMuted(client, room.roomId, on))} />
                </section>
                <Members room={room} onInvite={state().may.invite ? () => setInviting(true) : undefined} />
                <section class="info-part">
                    <button type="button" class="row-button" onClick={() => void copy(webLink(state().alias ?? room.roomId, undefined, [serverOf(me)]))}><Icon name="link" /> {t("info.copyLink")}</button>
                    <button type="button" class="row-button danger" onClick={() => setAsking("leave")}><Icon name="leave" /> {t("info.leave")}</button>
                    <p class="quiet small">{t("info.version", { version: state().version })}</p>
                </section>
            </div>
            <Show when={inviting()}><InviteDialog room={room} onClose={() => setInviting(false)} /></Show>
            <Show when={asking() === "leave"}>
                <Confirm title={t("info.leave")} text={t("info.leaveText")} action={t("info.leave")} danger onClose={() => setAsking(null)} onConfirm={async () => {
                    await leave(client, room.roomId);
                    go("#/", true);
                }} />
            </Show>
            <Show when={asking() === "encrypt"}>
                <Confirm title={t("info.encrypt")} text={t("info.encryptText")} action={t("info.encrypt")} onClose={() => setAsking(null)} onConfirm={async () => {
                    await client.sendStateEvent(room.roomId, EventType.RoomEncryption, { algorithm: "m.megolm.v1.aes-sha2" }, "");
                }} />
            </Show>
        </aside>
    );
}
