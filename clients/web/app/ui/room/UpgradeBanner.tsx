/** Says that a room was replaced by another, or that this one follows an older. */
import { createMemo, Show } from "solid-js";
import { EventType, KnownMembership, type Room } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { go, roomPath } from "../../lib/router.ts";
import { serverOf } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { successorOf } from "../../model/rooms.ts";
import { Icon } from "../icons.tsx";
import { attempt } from "../parts.tsx";
import { useRoom } from "./context.ts";

export function UpgradeBanner(props: { room: Room }) {
    const { client } = useApp();
    const { changes } = useRoom();
    const successor = createMemo(() => (changes(), successorOf(props.room)));
    const predecessor = createMemo(() => (changes(), props.room.findPredecessor()?.roomId));
    async function follow(next: string): Promise<void> {
        if (client.getRoom(next)?.getMyMembership() !== KnownMembership.Join) {
            const replacer = props.room.currentState.getStateEvents(EventType.RoomTombstone, "")!.getSender()!;
            await client.joinRoom(next, { viaServers: [serverOf(replacer)] });
        }
        go(roomPath(next));
    }
    return (
        <>
            <Show when={successor()}>
                {(next) => (
                    <div class="banner warm"><Icon name="right" /><span>{t("upgrade.replaced")}</span>
                        <button type="button" class="button small" onClick={() => attempt(follow(next()))}>{t("upgrade.go")}</button>
                    </div>
                )}
            </Show>
            <Show when={predecessor() && client.getRoom(predecessor()!)}>
                <div class="banner"><Icon name="clock" /><span>{t("upgrade.follows")}</span>
                    <a class="button small" href={roomPath(predecessor()!)}>{t("upgrade.old")}</a>
                </div>
            </Show>
        </>
    );
}
