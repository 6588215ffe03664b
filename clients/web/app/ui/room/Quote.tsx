/** What a message answers. */
import { createResource, Show } from "solid-js";
import { MatrixEvent } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { useApp } from "../../model/app.ts";
import { nameOf, summaryOf } from "../../model/preview.ts";
import { useRoom } from "./context.ts";

export function Quote(props: { event_id: string }) {
    const { client } = useApp();
    const { room, changes, jump, timeline } = useRoom();
    const [fetched] = createResource(
        () => props.event_id,
        async (id) => {
            const known = timeline.find(id) ?? room.findEventById(id);
            if (known) return known;
            try {
                const event = new MatrixEvent(await client.fetchRoomEvent(room.roomId, id));
                await client.decryptEventIfNeeded(event);
                return event;
            } catch {
                return null;
            }
        },
    );
    return (
        <button type="button" class="quote" onClick={() => jump(props.event_id)}>
            <Show when={fetched()} fallback={<span class="quiet">{fetched.loading ? "…" : t("message.originalMissing")}</span>}>
                {(event) => (
                    <>
                        <strong><bdi>{nameOf(event(), room)}</bdi></strong>
                        <span dir="auto">{(changes(), summaryOf(event()))}</span>
                    </>
                )}
            </Show>
        </button>
    );
}
