/** A quiet line about a change of the room. */
import { createMemo } from "solid-js";
import { EventType, type MatrixEvent } from "matrix-js-sdk";
import { locale, t } from "../../i18n/index.ts";
import { dateAndTime } from "../../lib/dates.ts";
import { localpart, safeName } from "../../lib/names.ts";
import { nameOf } from "../../model/preview.ts";
import { useRoom } from "./context.ts";

export function Notice(props: { event: MatrixEvent }) {
    const { room, changes } = useRoom();
    const text = createMemo(() => (changes(), textOf(props.event)));

    function textOf(event: MatrixEvent): string {
        const name = nameOf(event, room);
        const content = event.getContent();
        switch (event.getType()) {
            case EventType.RoomMember: return membership(event, name);
            case EventType.RoomName: return content.name ? t("notice.name", { name, to: safeName(String(content.name)) }) : t("notice.noName", { name });
            case EventType.RoomTopic: return t("notice.topic", { name, to: safeName(String(content.topic ?? ""), 200) });
            case EventType.RoomAvatar: return t("notice.avatar", { name });
            case EventType.RoomEncryption: return t("notice.encrypted");
            case EventType.RoomCreate: return t("notice.created", { name });
            case EventType.RoomJoinRules: return content.join_rule === "public" ? t("notice.public", { name }) : t("notice.invite", { name });
            case EventType.RoomTombstone: return t("notice.upgraded", { name });
            case EventType.RoomHistoryVisibility: return t("notice.history", { name });
            case EventType.RoomPowerLevels: return t("notice.roles", { name });
            case EventType.RoomMessage: return t("notice.verification", { name });
            default: return t("notice.other", { name });
        }
    }

    function membership(event: MatrixEvent, name: string): string {
        const [now, before] = [event.getContent(), event.getPrevContent()];
        const key = event.getStateKey()!;
        const target = safeName(String(now.displayname ?? before.displayname ?? localpart(key)), 60) || localpart(key);
        const self = key === event.getSender();
        if (now.membership === "invite") return t("notice.invited", { name, target });
        if (now.membership === "knock") return t("notice.knocked", { name: target });
        if (now.membership === "ban") return t("notice.banned", { name, target });
        if (now.membership === "leave") {
            if (self) return before.membership === "invite" ? t("notice.declined", { name: target }) : t("notice.left", { name: target });
            return before.membership === "ban" ? t("notice.unbanned", { name, target }) : t("notice.kicked", { name, target });
        }
        if (before.membership !== "join") return t("notice.joined", { name: target });
        if (now.displayname !== before.displayname) return t("notice.renamed", { name: safeName(String(before.displayname ?? localpart(key)), 60), target });
        return t("notice.picture", { name: target });
    }

    return (
        <p class="notice" title={dateAndTime(props.event.getTs(), locale())} data-event-id={props.event.getId()}><bdi>{text()}</bdi></p>
    );
}
