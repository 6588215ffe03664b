/** Which events a conversation shows, and as what. */
import { EventType, RelationType, type MatrixEvent } from "matrix-js-sdk";

export type Kind =
    /** A bubble: somebody said something. */
    | "message"
    /** A quiet line: something about the room changed. */
    | "notice"
    /** Nothing of its own. */
    | "hidden";

const NOTICES = new Set<string>([
    EventType.RoomMember, EventType.RoomName, EventType.RoomTopic, EventType.RoomAvatar, EventType.RoomEncryption, EventType.RoomCreate,
    EventType.RoomJoinRules, EventType.RoomTombstone, EventType.RoomHistoryVisibility, EventType.RoomPowerLevels, "m.room.pinned_events",
]);

/** Events that other things are made of: reactions show at what they react to. */
const SILENT = new Set<string>([
    EventType.Reaction, EventType.RoomRedaction, "m.poll.response", "org.matrix.msc3381.poll.response", "m.poll.end", "org.matrix.msc3381.poll.end",
    EventType.CallCandidates, EventType.CallAnswer, EventType.CallHangup, EventType.CallReject, EventType.CallSelectAnswer, EventType.CallNegotiate,
    "m.beacon", "org.matrix.msc3672.beacon", "m.rtc.notification", "org.matrix.msc4075.rtc.notification", "m.dummy",
]);

export function kindOf(event: MatrixEvent): Kind {
    const type = event.getType();
    if (event.isState()) return NOTICES.has(type) && changesAnything(event) ? "notice" : "hidden";
    if (SILENT.has(type) || type.startsWith("m.key.verification.")) return "hidden";
    // An edit shows at what it edits, deleted reactions and edits nowhere.
    if (event.isRelation(RelationType.Replace)) return "hidden";
    if (event.isRedacted() && event.getWireType() === EventType.Reaction) return "hidden";
    if (type === EventType.RoomMessage && event.getContent().msgtype === EventType.KeyVerificationRequest) return "notice";
    return "message";
}

/** What a room is made with need not be told: it stands in its details. */
const SETTINGS = new Set<string>([EventType.RoomJoinRules, EventType.RoomHistoryVisibility, EventType.RoomPowerLevels]);

function changesAnything(event: MatrixEvent): boolean {
    if (SETTINGS.has(event.getType())) return Object.keys(event.getPrevContent()).length > 0;
    if (event.getType() !== EventType.RoomMember) return true;
    const [now, before] = [event.getContent(), event.getPrevContent()];
    return now.membership !== before.membership || now.displayname !== before.displayname || now.avatar_url !== before.avatar_url;
}

/** Whether it has a place of its own in the conversation (not in a thread). */
export function isShown(event: MatrixEvent): boolean {
    return kindOf(event) !== "hidden" && !isInThread(event);
}

export function isInThread(event: MatrixEvent): boolean {
    return event.isRelation("m.thread") && !event.isThreadRoot;
}
