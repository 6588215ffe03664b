/** Questions about rooms, and what is done with them as a whole. */
import {
    EventType, JoinRule, KnownMembership, Preset, Visibility, type MatrixClient, type Room, type ICreateRoomOpts, PushRuleKind,
} from "matrix-js-sdk";

const ENCRYPTION = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };

/** The other person of a conversation of two. */
export function directUser(client: MatrixClient, room: Room): string | null {
    const me = client.getSafeUserId();
    const direct = client.getAccountData(EventType.Direct)?.getContent() as Record<string, string[]> | undefined;
    for (const [user, rooms] of Object.entries(direct ?? {})) {
        if (user !== me && Array.isArray(rooms) && rooms.includes(room.roomId)) return user;
    }
    const mine = room.getMember(me)?.events.member;
    if (mine?.getContent().is_direct && mine.getContent().membership === "invite") return mine.getSender() ?? null;
    return null;
}

/** The conversation with a person, if there is one. */
export function directRoom(client: MatrixClient, user_id: string): Room | null {
    const direct = client.getAccountData(EventType.Direct)?.getContent() as Record<string, string[]> | undefined;
    const rooms = (direct?.[user_id] ?? []).map((id) => client.getRoom(id)).filter((room): room is Room => {
        const theirs = room?.getMember(user_id)?.membership;
        return room?.getMyMembership() === KnownMembership.Join && (theirs === KnownMembership.Join || theirs === KnownMembership.Invite);
    });
    return rooms.sort((a, b) => b.getLastActiveTimestamp() - a.getLastActiveTimestamp())[0] ?? null;
}

async function noteDirect(client: MatrixClient, user_id: string, room_id: string): Promise<void> {
    const direct = { ...(client.getAccountData(EventType.Direct)?.getContent() as Record<string, string[]> | undefined) };
    direct[user_id] = [...new Set([...(direct[user_id] ?? []), room_id])];
    await client.setAccountData(EventType.Direct, direct);
}

/** Begins a conversation with a person, or gives the one there is. Returns its room. */
export async function startDirect(client: MatrixClient, user_id: string): Promise<string> {
    const found = directRoom(client, user_id);
    if (found) return found.roomId;
    const invited = client.getRooms().find((room) => room.getMyMembership() === KnownMembership.Invite && directUser(client, room) === user_id);
    if (invited) return invited.roomId;
    const { room_id } = await client.createRoom({
        preset: Preset.TrustedPrivateChat,
        visibility: Visibility.Private,
        is_direct: true,
        invite: [user_id],
        initial_state: [ENCRYPTION],
    });
    await noteDirect(client, user_id, room_id);
    return room_id;
}

export interface GroupOptions {
    name: string;
    topic?: string;
    invite: string[];
    /** Anybody may find and enter it; such a room is not encrypted. */
    open: boolean;
    alias?: string;
}

export async function createGroup(client: MatrixClient, { name, topic, invite, open, alias }: GroupOptions): Promise<string> {
    const options: ICreateRoomOpts = {
        name,
        ...(topic ? { topic } : {}),
        invite,
        preset: open ? Preset.PublicChat : Preset.PrivateChat,
        visibility: open ? Visibility.Public : Visibility.Private,
        ...(open && alias ? { room_alias_name: alias } : {}),
        initial_state: open ? [] : [ENCRYPTION],
    };
    return (await client.createRoom(options)).room_id;
}

/** Opens a room to everybody, and lists it; or closes it again. */
export async function setOpen(client: MatrixClient, room: Room, open: boolean): Promise<void> {
    await client.sendStateEvent(room.roomId, EventType.RoomJoinRules, { join_rule: open ? JoinRule.Public : JoinRule.Invite }, "");
    await client.setRoomDirectoryVisibility(room.roomId, open ? Visibility.Public : Visibility.Private);
}

/** The room that replaced this one, if it says so. */
export function successorOf(room: Room): string | null {
    const next: unknown = room.currentState.getStateEvents(EventType.RoomTombstone, "")?.getContent().replacement_room;
    return typeof next === "string" && next.startsWith("!") ? next : null;
}

/** Accepts an invitation; remembers a conversation of two as one. */
export async function accept(client: MatrixClient, room: Room): Promise<void> {
    const other = directUser(client, room);
    await client.joinRoom(room.roomId);
    if (other) await noteDirect(client, other, room.roomId);
}

/** Waits until a room has come by sync. */
export async function roomComes(client: MatrixClient, room_id: string, ms = 15000): Promise<Room | null> {
    const end = Date.now() + ms;
    for (;;) {
        const room = client.getRoom(room_id);
        if (room || Date.now() > end) return room;
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}

export async function leave(client: MatrixClient, room_id: string): Promise<void> {
    await client.leave(room_id);
    await client.forget(room_id, true).catch(() => {});
}

export function isEncrypted(room: Room): boolean {
    return room.hasEncryptionStateEvent();
}

export function isMuted(client: MatrixClient, room_id: string): boolean {
    const override = client.pushRules?.global?.override?.find((rule) => rule.rule_id === room_id && rule.enabled);
    return override?.actions.length === 0 || (override?.actions as string[] | undefined)?.includes("dont_notify") === true;
}

export async function setMuted(client: MatrixClient, room_id: string, muted: boolean): Promise<void> {
    if (muted) {
        await client.addPushRule("global", PushRuleKind.Override, room_id, {
            conditions: [{ kind: "event_match" as never, key: "room_id", pattern: room_id }],
            actions: [],
        } as never);
    } else await client.deletePushRule("global", PushRuleKind.Override, room_id);
}

export function isFavourite(room: Room): boolean {
    return Boolean(room.tags["m.favourite"]);
}

export async function setFavourite(client: MatrixClient, room: Room, on: boolean): Promise<void> {
    if (on) await client.setRoomTag(room.roomId, "m.favourite", { order: 0.5 });
    else await client.deleteRoomTag(room.roomId, "m.favourite");
}

/** Blocks a person: their messages are not shown, and their invitations are not either. */
export async function setBlocked(client: MatrixClient, user_id: string, blocked: boolean): Promise<void> {
    const rest = client.getIgnoredUsers().filter((each) => each !== user_id);
    await client.setIgnoredUsers(blocked ? [...rest, user_id] : rest);
}
