/** A picture: its thumbnail in the conversation, itself when opened. */
import { createEffect, createSignal, onCleanup, Show } from "solid-js";
import type { IContent } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { useApp } from "../../model/app.ts";
import { Icon } from "../icons.tsx";
import { attempt, Dialog, Spinner } from "../parts.tsx";
import { saveBlob } from "../save.ts";
import { frameOf, nameOfFile, sourceOf, thumbnailOf } from "./media-parts.ts";

const EDGE = 340;

export function Photo(props: { content: IContent }) {
    const { media } = useApp();
    const [url, setUrl] = createSignal<string | null>(null);
    const [broken, setBroken] = createSignal(false);
    const [open, setOpen] = createSignal(false);
    createEffect(() => {
        const source = thumbnailOf(props.content) ?? sourceOf(props.content);
        let alive = true;
        onCleanup(() => (alive = false));
        setBroken(false);
        if (!source) return void setBroken(true);
        media.url(source).then((made) => alive && setUrl(made), () => alive && setBroken(true));
    });
    const frame = () => frameOf(props.content, EDGE);
    return (
        <>
            <Show when={!broken()} fallback={<p class="body quiet"><Icon name="alert" /> {t("photo.broken", { name: nameOfFile(props.content) })}</p>}>
                <button type="button" class="photo" style={{ width: `${frame().width}px`, "aspect-ratio": `${frame().width} / ${frame().height}` }} onClick={() => setOpen(true)} aria-label={t("photo.open", { name: nameOfFile(props.content) })}>
                    <Show when={url()} fallback={<Spinner />}>
                        {(shown) => <img src={shown()} alt={nameOfFile(props.content)} loading="lazy" draggable={false} onError={() => setBroken(true)} />}
                    </Show>
                </button>
            </Show>
            <Show when={open()}><Viewer content={props.content} preview={url()} onClose={() => setOpen(false)} /></Show>
        </>
    );
}

function Viewer(props: { content: IContent; preview: string | null; onClose: () => void }) {
    const { media } = useApp();
    const [url, setUrl] = createSignal(props.preview);
    const source = sourceOf(props.content);
    if (source) media.url(source).then(setUrl, () => {});
    const save = async () => saveBlob(await media.file(source!), nameOfFile(props.content));
    return (
        <Dialog title={nameOfFile(props.content)} onClose={props.onClose} class="viewer">
            <Show when={url()} fallback={<Spinner />}>{(shown) => <img src={shown()} alt={nameOfFile(props.content)} />}</Show>
            <Show when={source}>
                <div class="actions centred"><button type="button" class="button" onClick={() => attempt(save())}><Icon name="download" /> {t("common.save")}</button></div>
            </Show>
        </Dialog>
    );
}
