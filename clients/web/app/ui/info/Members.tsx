/** Who is in a room: a virtual list, so that 10,000 are no burden; and who is banned, for those who may lift that. */
import { createMemo, createResource, createSignal, For, Show } from "solid-js";
import { VList } from "virtua/solid";
import type { Room, RoomMember } from "matrix-js-sdk";
import { t, tn } from "../../i18n/index.ts";
import { safeName, serverOf, shortUser } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { Avatar } from "../Avatar.tsx";
import { Icon } from "../icons.tsx";
import { useRoom } from "../room/context.ts";
import { MemberDialog, mayUnban } from "./MemberDialog.tsx";

const FILTER_FROM = 8;
const MAX_BANNED = 500;

export function Members(props: { room: Room; onInvite?: (() => void) | undefined }) {
    const { people, client } = useApp();
    const { changes } = useRoom();
    const [query, setQuery] = createSignal("");
    const [open, setOpen] = createSignal<RoomMember | null>(null);
    const [loaded] = createResource(() => props.room.loadMembersIfNeeded().catch(() => false));
    // The members themselves, which stay the same objects: their rows stay too, with the keyboard's focus, when something changes.
    const all = createMemo(() => {
        loaded();
        changes();
        const rank = (member: RoomMember) => (member.membership === "invite" ? 1 : 0);
        return props.room
            .getMembers()
            .filter(({ membership }) => membership === "join" || membership === "invite")
            .map((member) => ({ member, key: member.name.toLowerCase() }))
            .sort((a, b) => rank(a.member) - rank(b.member) || b.member.powerLevel - a.member.powerLevel || (a.key < b.key ? -1 : 1))
            .map(({ member }) => member);
    });
    const shown = createMemo(() => {
        const wanted = query().trim().toLowerCase();
        return wanted ? all().filter((member) => member.name.toLowerCase().includes(wanted) || member.userId.includes(wanted)) : all();
    });
    const row = (member: RoomMember) => <Row member={member} near={people.isNear(serverOf(member.userId))} onOpen={() => setOpen(member)} />;
    const banned = createMemo(() => {
        loaded();
        changes();
        return mayUnban(props.room, client.getSafeUserId()) ? props.room.getMembersWithMembership("ban").slice(0, MAX_BANNED) : [];
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
                fallback={<div class="member-list"><For each={shown()}>{row}</For></div>}
            >
                <VList data={shown()} class="member-list" style={{ height: "24rem" }} itemSize={52} tabindex="0" role="group" aria-label={t("room.memberList")}>{row}</VList>
            </Show>
            <Show when={banned().length}>
                <h3>{t("info.banned")}</h3>
                <div class="banned-list"><For each={banned()}>{(member) => <Row member={member} near={undefined} onOpen={() => setOpen(member)} />}</For></div>
            </Show>
            <Show when={open()}>{(member) => <MemberDialog room={props.room} member={member()} onClose={() => setOpen(null)} />}</Show>
        </section>
    );
}

function Row(props: { member: RoomMember; near: boolean | undefined; onOpen: () => void }) {
    const { changes } = useRoom();
    const now = createMemo(() => {
        changes();
        return { name: safeName(props.member.name, 60), url: props.member.getMxcAvatarUrl(), role: role(props.member) };
    });
    return (
        <button type="button" class="person" onClick={() => props.onOpen()}>
            <Avatar id={props.member.userId} name={now().name} url={now().url} size="small" near={props.near} />
            <span class="hit-text"><bdi>{now().name}</bdi><span class="quiet small">{shortUser(props.member.userId)}</span></span>
            <Show when={now().role}>{(name) => <span class="role">{name()}</span>}</Show>
        </button>
    );
}

function role(member: RoomMember): string {
    if (member.membership === "invite") return t("role.invited");
    if (member.powerLevel >= 100) return t("role.admin");
    return member.powerLevel >= 50 ? t("role.moderator") : "";
}
