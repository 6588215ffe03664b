/** Who is in a room: a virtual list, so that 10,000 are no burden; and what may be done about each. */
import { createMemo, createResource, createSignal, For, Show } from "solid-js";
import { VList } from "virtua/solid";
import type { Room, RoomMember } from "matrix-js-sdk";
import { t, tn } from "../../i18n/index.ts";
import { safeName, serverOf, shortUser } from "../../lib/names.ts";
import { path } from "../../lib/router.ts";
import { useApp } from "../../model/app.ts";
import { setBlocked } from "../../model/rooms.ts";
import { Avatar } from "../Avatar.tsx";
import { Icon } from "../icons.tsx";
import { attempt, Dialog } from "../parts.tsx";
import { useRoom } from "../room/context.ts";

const FILTER_FROM = 8;

export function Members(props: { room: Room; onInvite?: (() => void) | undefined }) {
    const { people } = useApp();
    const { changes } = useRoom();
    const [query, setQuery] = createSignal("");
    const [open, setOpen] = createSignal<RoomMember | null>(null);
    const [loaded] = createResource(() => props.room.loadMembersIfNeeded().catch(() => false));
    const all = createMemo(() => {
        loaded();
        changes();
        const rank = (member: RoomMember) => (member.membership === "invite" ? 1 : 0);
        return props.room
            .getMembers()
            .filter(({ membership }) => membership === "join" || membership === "invite")
            .map((member) => ({ member, name: safeName(member.name, 60), power: member.powerLevel, key: member.name.toLowerCase() }))
            .sort((a, b) => rank(a.member) - rank(b.member) || b.power - a.power || (a.key < b.key ? -1 : 1));
    });
    const shown = createMemo(() => {
        const wanted = query().trim().toLowerCase();
        return wanted ? all().filter(({ key, member }) => key.includes(wanted) || member.userId.includes(wanted)) : all();
    });
    return (
        <section class="info-part">
            <div class="part-head">
                <h3>{tn("room.members", all().length)}</h3>
                <Show when={props.onInvite}><button type="button" class="button small" onClick={() => props.onInvite!()}><Icon name="plus" /> {t("info.invite")}</button></Show>
            </div>
            <Show when={all().length >= FILTER_FROM}>
                <input class="filter" type="search" value={query()} placeholder={t("info.findMember")} aria-label={t("info.findMember")} onInput={(event) => setQuery(event.currentTarget.value)} />
            </Show>
            <Show
                when={shown().length > 40}
                fallback={<div class="member-list"><For each={shown()}>{(each) => <Row name={each.name} member={each.member} near={people.isNear(serverOf(each.member.userId))} onOpen={() => setOpen(each.member)} />}</For></div>}
            >
                <VList data={shown()} class="member-list" style={{ height: "24rem" }} itemSize={52} tabindex="0" role="group" aria-label={t("room.memberList")}>
                    {(each) => <Row name={each.name} member={each.member} near={people.isNear(serverOf(each.member.userId))} onOpen={() => setOpen(each.member)} />}
                </VList>
            </Show>
            <Show when={open()}>{(member) => <MemberDialog room={props.room} member={member()} onClose={() => setOpen(null)} />}</Show>
        </section>
    );
}

function Row(props: { member: RoomMember; name: string; near: boolean | undefined; onOpen: () => void }) {
    return (
        <button type="button" class="person" onClick={() => props.onOpen()}>
            <Avatar id={props.member.userId} name={props.name} url={props.member.getMxcAvatarUrl()} size="small" near={props.near} />
            <span class="hit-text"><bdi>{props.name}</bdi><span class="quiet small">{shortUser(props.member.userId)}</span></span>
            <Show when={role(props.member)}>{(name) => <span class="role">{name()}</span>}</Show>
        </button>
    );
}

function role(member: RoomMember): string {
    if (member.membership === "invite") return t("role.invited");
    if (member.powerLevel >= 100) return t("role.admin");
    return member.powerLevel >= 50 ? t("role.moderator") : "";
}

const LEVELS = [0, 50, 100] as const;

function MemberDialog(props: { room: Room; member: RoomMember; onClose: () => void }) {
    const { client } = useApp();
    const { changes } = useRoom();
    const me = client.getSafeUserId();
    const { room, member } = props;
    const self = member.userId === me;
    const may = createMemo(() => {
        changes();
        const mine = room.getMember(me)?.powerLevel ?? 0;
        const above = mine > member.powerLevel;
        const state = room.currentState;
        return {
            kick: !self && above && state.hasSufficientPowerLevelFor("kick", mine),
            ban: !self && above && state.hasSufficientPowerLevelFor("ban", mine),
            roles: (above || self) && state.maySendStateEvent("m.room.power_levels", me) && Number.isFinite(member.powerLevel),
            level: mine,
        };
    });
    const name = () => safeName(member.name, 60);
    const run = (work: Promise<unknown>) => {
        attempt(work);
        props.onClose();
    };
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
                                    <input type="radio" name="role" checked={member.powerLevel === level} onChange={() => run(client.setPowerLevel(room.roomId, member.userId, level))} />
                                    {level === 100 ? t("role.admin") : level === 50 ? t("role.moderator") : t("role.member")}
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
                <Show when={may().kick}><button type="button" class="row-button danger" onClick={() => run(client.kick(room.roomId, member.userId))}><Icon name="leave" /> {t("info.kick")}</button></Show>
                <Show when={may().ban}><button type="button" class="row-button danger" onClick={() => run(client.ban(room.roomId, member.userId))}><Icon name="block" /> {t("info.ban")}</button></Show>
                <Show when={!self}><button type="button" class="row-button danger" onClick={() => run(setBlocked(client, member.userId, true))}><Icon name="block" /> {t("user.block")}</button></Show>
            </div>
        </Dialog>
    );
}

