/** An invitation: who it is from, and what to do with it. */
import { createSignal, Show } from "solid-js";
import type { Room } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { go } from "../../lib/router.ts";
import { safeName, serverOf } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { accept, directUser, leave, setBlocked } from "../../model/rooms.ts";
import { Avatar } from "../Avatar.tsx";
import { Icon } from "../icons.tsx";
import { useProfile } from "../profile.ts";
import { errorText, say } from "../parts.tsx";

export function Invitation(props: { room: Room }) {
    const { client, people } = useApp();
    const [busy, setBusy] = createSignal(false);
    const inviter = () => props.room.getMember(client.getSafeUserId())?.events.member?.getSender() ?? "";
    const profile = useProfile(inviter);
    const name = () => safeName(String(props.room.getMember(inviter())?.events.member?.getContent().displayname ?? ""), 60) || profile().name;
    const direct = () => directUser(client, props.room);
    const title = () => (direct() ? name() : safeName(props.room.name));

    async function run(work: () => Promise<unknown>, after?: () => void): Promise<void> {
        setBusy(true);
        try {
            await work();
            after?.();
        } catch (error) {
            say(errorText(error), "error");
        } finally {
            setBusy(false);
        }
    }
    const home = () => go("#/", true);
    return (
        <section class="empty">
            <a class="icon-button only-narrow corner" href="#/" aria-label={t("common.back")}><Icon name="back" /></a>
            <Avatar id={direct() ?? props.room.roomId} name={title()} size="huge" url={(direct() && props.room.getMember(inviter())?.getMxcAvatarUrl()) || props.room.getMxcAvatarUrl()} near={people.isNear(serverOf(inviter()))} group={!direct()} />
            <h1><bdi>{title()}</bdi></h1>
            <p>{direct() ? t("invitation.direct", { name: name() }) : t("invitation.group", { name: name() })}</p>
            <p class="quiet small address">{inviter()}</p>
            <div class="actions centred">
                <button type="button" class="button primary" disabled={busy()} onClick={() => void run(() => accept(client, props.room))}>{t("invitation.accept")}</button>
                <button type="button" class="button" disabled={busy()} onClick={() => void run(() => leave(client, props.room.roomId), home)}>{t("invitation.decline")}</button>
            </div>
            <Show when={inviter()}>
                <button type="button" class="link-button danger" disabled={busy()} onClick={() => void run(() => Promise.all([setBlocked(client, inviter(), true), leave(client, props.room.roomId)]), home)}>
                    {t("invitation.block", { name: name() })}
                </button>
            </Show>
        </section>
    );
}
