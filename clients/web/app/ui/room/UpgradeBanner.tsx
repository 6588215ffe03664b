/** Says that a room was replaced by another, or that this one follows an older. */
import { createMemo, Show } from "solid-js";
import type { Room } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { go, roomPath } from "../../lib/router.ts";
import { serverOf } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { Icon } from "../icons.tsx";
import { attempt } from "../parts.tsx";
import { useRoom } from "./context.ts";

export function UpgradeBanner(props: { room: Room }) {
    const { client } = useApp();
    const { changes } = useRoom();
    const tombstone = createMemo(() => (changes(), props.room.currentState.getStateEvents("m.room.tombstone", "")));
    const predecessor = createMemo(() => (changes(), props.room.findPredecessor()?.roomId));
    async function follow(): Promise<void> {
        const next = String(tombstone()!.getContent().replacement_room);
        if (!client.getRoom(next)) await client.joinRoom(next, { viaServers: [serverOf(tombstone()!.getSender()!)] });
        go(roomPath(next));
    }
    return (
        <>
            <Show when={tombstone()}>
                <div class="banner warm"><Icon name="right" /><span>{t("upgrade.replaced")}</span>
                    <button type="button" class="button small" onClick={() => attempt(follow())}>{t("upgrade.go")}</button>
                </div>
            </Show>
            <Show when={predecessor() && client.getRoom(predecessor()!)}>
                <div class="banner"><Icon name="clock" /><span>{t("upgrade.follows")}</span>
                    <a class="button small" href={roomPath(predecessor()!)}>{t("upgrade.old")}</a>
                </div>
            </Show>
        </>
    );
}
