/** Takes files that are dropped on a conversation. */
import { createSignal, Show, type JSX } from "solid-js";
import { t } from "../../i18n/index.ts";
import { Icon } from "../icons.tsx";
import { sendFiles, useRoom } from "./context.ts";

export function DropZone(props: { class: string; children: JSX.Element }) {
    const here = useRoom();
    const [over, setOver] = createSignal(0);
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    return (
        <div
            class={props.class}
            onDragEnter={(event) => hasFiles(event) && setOver(over() + 1)}
            onDragLeave={(event) => hasFiles(event) && setOver(Math.max(0, over() - 1))}
            onDragOver={(event) => hasFiles(event) && event.preventDefault()}
            onDrop={(event) => {
                if (!hasFiles(event)) return;
                event.preventDefault();
                setOver(0);
                sendFiles(here, [...(event.dataTransfer?.files ?? [])]);
            }}
        >
            {props.children}
            <Show when={over()}><div class="drop-hint" aria-hidden="true"><Icon name="attach" class="large" /> {t("composer.drop")}</div></Show>
        </div>
    );
}
