/** The list of conversations: what each is called, what was said last, how much is unread. Kept true as syncs come in. */
import { createStore, reconcile } from "solid-js/store";
import { createSignal, type Accessor } from "solid-js";
import {
    ClientEvent, EventType, KnownMembership, MatrixEventEvent, NotificationCountType, RoomEvent, RoomMemberEvent, RoomStateEvent,
    type MatrixClient, type MatrixEvent, type Room, type RoomMember,
} from "matrix-js-sdk";
import { safeName } from "../lib/names.ts";
import { previewOf } from "./preview.ts";
import { directUser, isFavourite, isMuted, successorOf } from "./rooms.ts";

export interface Conversation {
    room_id: string;
    name: string;
    avatar_url: string | null;
    /** The other person, in a conversation of two. */
    direct_user_id: string | null;
    membership: string;
    /** Who invited, when it is an invitation. */
    inviter: string | null;
    ts: number;
    preview: string;
    /** The draft of a message that is not sent yet. */
    draft: string;
    unread: number;
    mention: boolean;
    muted: boolean;
    favourite: boolean;
    typing: string[];
    members: number;
    failed: boolean;
}

export interface Conversations {
    list: Conversation[];
    /** Rises with everything that happens in a room; reading it makes a computation follow the room. */
    changes(room_id: string): number;
    /** Says that something about a room changed which no sync tells, such as a draft. */
    touch(room_id: string): void;
    /** All unread messages of conversations that are not muted. */
    unread: Accessor<number>;
    stop(): void;
}

const BATCH_MS = 60;

export function createConversations(client: MatrixClient): Conversations {
    const [state, setState] = createStore<{ list: Conversation[] }>({ list: [] });
    const [unread, setUnread] = createSignal(0);
    const known = new Map<string, Conversation>();
    const versions = new Map<string, ReturnType<typeof createSignal<number>>>();
    const dirty = new Set<string>();
    let timer: ReturnType<typeof setTimeout> | undefined;

    function version(room_id: string) {
        let found = versions.get(room_id);
        if (!found) versions.set(room_id, (found = createSignal(0)));
        return found;
    }

    function touch(room_id: string | undefined | null): void {
        if (!room_id) return;
        dirty.add(room_id);
        timer ??= setTimeout(refresh, BATCH_MS);
    }

    function refresh(): void {
        timer = undefined;
        for (const room_id of dirty) {
            const room = client.getRoom(room_id);
            const now = room && describe(client, room);
            if (now) known.set(room_id, now);
            else known.delete(room_id);
        }
        const list = [...known.values()].sort((a, b) => Number(b.membership === "invite") - Number(a.membership === "invite") || Number(b.favourite) - Number(a.favourite) || b.ts - a.ts);
        setState("list", reconcile(list, { key: "room_id", merge: true }));
        setUnread(list.reduce((sum, each) => sum + (each.muted ? 0 : each.unread), 0));
        const changed = [...dirty];
        dirty.clear();
        for (const room_id of changed) version(room_id)[1]((n) => (n ?? 0) + 1);
    }

    const ofRoom = (room: Room) => touch(room.roomId);
    const ofEvent = (event: MatrixEvent) => touch(event.getRoomId());
    const onTimeline = (event: MatrixEvent, room?: Room) => touch(room?.roomId ?? event.getRoomId());
    const onReceipt = (_: MatrixEvent, room: Room) => touch(room.roomId);
    // The event itself does not say in which room it is.
    const onTyping = (_: MatrixEvent, member: RoomMember) => touch(member.roomId);
    const onAll = () => client.getRooms().forEach(ofRoom);
    const onAccountData = (event: MatrixEvent) => {
        if ([EventType.Direct, EventType.PushRules, "m.ignored_user_list"].includes(event.getType() as EventType)) onAll();
    };
    const onRoomAccount = (_: MatrixEvent, room: Room) => touch(room.roomId);
    const handlers: [string, (...args: never[]) => void][] = [
        [ClientEvent.Room, ofRoom],
        [ClientEvent.AccountData, onAccountData],
        [RoomEvent.Timeline, onTimeline],
        [RoomEvent.LocalEchoUpdated, onTimeline],
        [RoomEvent.Name, ofRoom],
        [RoomEvent.MyMembership, ofRoom],
        [RoomEvent.Receipt, onReceipt],
        [RoomEvent.Redaction, onTimeline],
        [RoomEvent.Tags, onRoomAccount],
        [RoomEvent.AccountData, onRoomAccount],
        [RoomMemberEvent.Typing, onTyping],
        [RoomMemberEvent.Membership, ofEvent],
        [RoomMemberEvent.Name, ofEvent],
        [RoomStateEvent.Events, ofEvent],
        [MatrixEventEvent.Decrypted, ofEvent],
        [MatrixEventEvent.Replaced, ofEvent],
        [ClientEvent.DeleteRoom, ((room_id: string) => touch(room_id)) as never],
    ];
    for (const [name, handler] of handlers) client.on(name as never, handler as never);
    onAll();
    refresh();

    return {
        get list() {
            return state.list;
        },
        changes: (room_id) => version(room_id)[0]() ?? 0,
        touch,
        unread,
        stop() {
            clearTimeout(timer);
            for (const [name, handler] of handlers) client.off(name as never, handler as never);
        },
    };
}

function describe(client: MatrixClient, room: Room): Conversation | null {
    const membership = room.getMyMembership();
    if (membership !== KnownMembership.Join && membership !== KnownMembership.Invite && membership !== KnownMembership.Knock) return null;
    if (room.isSpaceRoom()) return null;
    // A conversation that went on elsewhere stands in the list once; its new room leads back to it.
    const successor = successorOf(room);
    if (successor && client.getRoom(successor)?.getMyMembership() === KnownMembership.Join) return null;
    const me = client.getSafeUserId();
    const direct_user_id = directUser(client, room);
    const ignored = client.getIgnoredUsers();
    const inviter = membership === KnownMembership.Invite ? (room.getMember(me)?.events.member?.getSender() ?? null) : null;
    if (inviter && ignored.includes(inviter)) return null;
    const { text, ts } = previewOf(client, room);
    return {
        room_id: room.roomId,
        name: safeName(room.name),
        avatar_url: (direct_user_id && room.getMember(direct_user_id)?.getMxcAvatarUrl()) || room.getMxcAvatarUrl(),
        direct_user_id,
        membership,
        inviter,
        ts,
        preview: text,
        draft: localStorage.getItem(`kith.draft.${room.roomId}`) ?? "",
        unread: room.getUnreadNotificationCount(NotificationCountType.Total),
        mention: room.getUnreadNotificationCount(NotificationCountType.Highlight) > 0,
        muted: isMuted(client, room.roomId),
        favourite: isFavourite(room),
        typing: room.currentState
            .getMembers()
            .filter((member) => member.typing && member.userId !== me && !ignored.includes(member.userId))
            .slice(0, 4)
            .map((member) => safeName(member.name, 40)),
        members: room.getJoinedMemberCount(),
        failed: room.getPendingEvents().some((event) => event.status === "not_sent"),
    };
}
