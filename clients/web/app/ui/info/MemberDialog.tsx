/** One member of a room: their role, and what those may do who may do something about it. */
import { createMemo, createSignal, For, Show } from "solid-js";
import type { Room, RoomMember } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { safeName } from "../../lib/names.ts";
import { path } from "../../lib/router.ts";
import { useApp } from "../../model/app.ts";
import { setBlocked } from "../../model/rooms.ts";
import { Avatar } from "../Avatar.tsx";
import { Icon } from "../icons.tsx";
import { attempt, Confirm, Dialog } from "../parts.tsx";
import { useRoom } from "../room/context.ts";

const LEVELS = [0, 50, 100] as const;

/** Lifting a ban takes what removing somebody takes, and what banning does (client-server API, "Banning users"). */
export function mayUnban(room: Room, user_id: string): boolean {
    const power = room.getMember(user_id)?.powerLevel ?? 0;
    return room.currentState.hasSufficientPowerLevelFor("ban", power) && room.currentState.hasSufficientPowerLevelFor("kick", power);
}

export function MemberDialog(props: { room: Room; member: RoomMember; onClose: () => void }) {
    const { client } = useApp();
    const { changes } = useRoom();
    const [asking, setAsking] = createSignal<{ text: string; action: string; danger: boolean; do: () => Promise<unknown> } | null>(null);
    const me = client.getSafeUserId();
    const { room, member } = props;
    const self = member.userId === me;
    const may = createMemo(() => {
        changes();
        const mine = room.getMember(me)?.powerLevel ?? 0;
        const above = mine > member.powerLevel;
        const state = room.currentState;
        const banned = member.membership === "ban";
        return {
            kick: !self && !banned && above && state.hasSufficientPowerLevelFor("kick", mine),
            ban: !self && !banned && above && state.hasSufficientPowerLevelFor("ban", mine),
            unban: banned && mayUnban(room, me),
            roles: !banned && (above || self) && state.maySendStateEvent("m.room.power_levels", me) && Number.isFinite(member.powerLevel),
            level: mine,
        };
    });
    const name = () => safeName(member.name, 60);
    const run = (work: Promise<unknown>) => {
        attempt(work);
        props.onClose();
    };
    function setRole(level: number): void {
        const give = () => client.setPowerLevel(room.roomId, member.userId, level);
        // Whoever is as high as oneself can be lowered by nobody else, and oneself is not raised again.
        if (self ? level < may().level : level >= may().level) {
            setAsking({ text: self ? t("info.lowerSelf") : t("info.raiseToOwn", { name: name() }), action: roleOf(level), danger: false, do: give });
        } else run(give());
    }
    return (
        <Dialog title={name()} onClose={props.onClose}>
            <div class="centred-card">
                <Avatar id={member.userId} name={name()} url={member.getMxcAvatarUrl()} size="huge" />
                <p class="quiet small address">{member.userId}</p>
            </div>
            <Show when={may().roles}>
                <fieldset class="choice">
                    <legend>{t("role.title")}</legend>
                    <div class="choice-options">
                        <For each={LEVELS.filter((level) => level <= may().level)}>
                            {(level) => (
                                <label classList={{ chosen: member.powerLevel === level }}>
                                    <input type="radio" name="role" checked={member.powerLevel === level} onChange={() => setRole(level)} />
                                    {roleOf(level)}
                                </label>
                            )}
                        </For>
                    </div>
                </fieldset>
            </Show>
            <div class="stack">
                <Show when={!self}>
                    <a class="row-button" href={path("user", member.userId)} onClick={() => props.onClose()}><Icon name="person" /> {t("user.title")}</a>
                </Show>
                <Show when={may().kick}>
                    <button type="button" class="row-button danger" onClick={() => setAsking({ text: t("info.kickText", { name: name() }), action: t("info.kick"), danger: true, do: () => client.kick(room.roomId, member.userId) })}><Icon name="leave" /> {t("info.kick")}</button>
                </Show>
                <Show when={may().ban}>
                    <button type="button" class="row-button danger" onClick={() => setAsking({ text: t("info.banText", { name: name() }), action: t("info.ban"), danger: true, do: () => client.ban(room.roomId, member.userId) })}><Icon name="block" /> {t("info.ban")}</button>
                </Show>
                <Show when={may().unban}><button type="button" class="row-button" onClick={() => run(client.unban(room.roomId, member.userId))}><Icon name="check" /> {t("info.unban")}</button></Show>
                <Show when={!self}><button type="button" class="row-button danger" onClick={() => run(setBlocked(client, member.userId, true))}><Icon name="block" /> {t("user.block")}</button></Show>
            </div>
            <Show when={asking()}>
                {(asked) => (
                    <Confirm title={name()} text={asked().text} action={asked().action} danger={asked().danger} onClose={() => props.onClose()} onConfirm={async () => {
                        await asked().do();
                    }} />
                )}
            </Show>
        </Dialog>
    );
}

function roleOf(level: number): string {
    return level === 100 ? t("role.admin") : level === 50 ? t("role.moderator") : t("role.member");
}
