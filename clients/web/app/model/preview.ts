/** One line that stands for what was said last. */
import { EventType, MsgType, type MatrixClient, type MatrixEvent, type Room } from "matrix-js-sdk";
import { localpart, safeName } from "../lib/names.ts";
import { withoutFallback } from "../lib/text.ts";
import { t } from "../i18n/index.ts";
import { isShown, kindOf } from "./kinds.ts";

export function previewOf(client: MatrixClient, room: Room): { text: string; ts: number } {
    const events = [...room.getLiveTimeline().getEvents(), ...room.getPendingEvents()];
    const ignored = client.getIgnoredUsers();
    for (let i = events.length - 1; i >= 0 && i > events.length - 200; i -= 1) {
        const event = events[i]!;
        if (!isShown(event) || kindOf(event) === "notice" || ignored.includes(event.getSender()!)) continue;
        return { text: lineOf(event, room, client.getSafeUserId()), ts: event.getTs() };
    }
    const own = room.getMember(client.getSafeUserId())?.events.member;
    return { text: "", ts: Math.max(events.at(-1)?.getTs() ?? 0, own?.getTs() ?? 0) };
}

/** An event in one line, with the name of who wrote it in a group. */
export function lineOf(event: MatrixEvent, room: Room, me: string): string {
    const text = summaryOf(event);
    if (event.getSender() === me) return t("preview.mine", { text });
    return room.getJoinedMemberCount() > 2 ? `${nameOf(event, room)}: ${text}` : text;
}

export function nameOf(event: MatrixEvent, room: Room | null): string {
    const sender = event.getSender() ?? "";
    return safeName(room?.getMember(sender)?.name ?? event.sender?.name ?? localpart(sender), 60) || localpart(sender);
}

/** What an event says, in a few words. */
export function summaryOf(event: MatrixEvent): string {
    if (event.isRedacted()) return t("event.deleted");
    if (event.isDecryptionFailure()) return t("event.locked");
    if (event.isBeingDecrypted() || event.getType() === EventType.RoomMessageEncrypted) return t("event.decrypting");
    if (event.getType() === EventType.Sticker) return t("event.sticker");
    if (event.getType() !== EventType.RoomMessage) return t("event.unknown");
    const content = event.getContent();
    const body = typeof content.body === "string" ? withoutFallback(content.body).slice(0, 300).replace(/\s+/g, " ") : "";
    const names: Partial<Record<string, string>> = {
        [MsgType.Image]: t("event.photo"),
        [MsgType.Video]: t("event.video"),
        [MsgType.File]: `${t("event.file")} ${safeName(body, 60)}`,
        [MsgType.Audio]: content["org.matrix.msc3245.voice"] ? t("event.voice") : `${t("event.audio")} ${safeName(body, 60)}`,
        [MsgType.Location]: t("event.location"),
    };
    return names[content.msgtype ?? ""] ?? (body || t("event.empty"));
}
