/** A file of any kind: only ever saved, never opened here. */
import { createSignal } from "solid-js";
import type { IContent } from "matrix-js-sdk";
import { locale, t } from "../../i18n/index.ts";
import { bytes } from "../../lib/dates.ts";
import { useApp } from "../../model/app.ts";
import { Icon } from "../icons.tsx";
import { say, Spinner } from "../parts.tsx";
import { saveBlob } from "../save.ts";
import { nameOfFile, sizeOfFile, sourceOf } from "./media-parts.ts";

export function FileCard(props: { content: IContent }) {
    const { media } = useApp();
    const [busy, setBusy] = createSignal(false);
    async function save(): Promise<void> {
        const source = sourceOf(props.content);
        if (!source) return say(t("file.broken"), "error");
        setBusy(true);
        try {
            saveBlob(await media.file(source), nameOfFile(props.content));
        } catch {
            say(t("file.broken"), "error");
        } finally {
            setBusy(false);
        }
    }
    const size = () => sizeOfFile(props.content);
    return (
        <button type="button" class="file-card" disabled={busy()} onClick={() => void save()} aria-label={t("file.save", { name: nameOfFile(props.content) })}>
            <span class="file-icon">{busy() ? <Spinner /> : <Icon name="file" />}</span>
            <span class="file-text">
                <span class="file-name"><bdi>{nameOfFile(props.content)}</bdi></span>
                <span class="file-size">{size() === null ? "" : bytes(size()!, locale())}</span>
            </span>
            <Icon name="download" />
        </button>
    );
}
