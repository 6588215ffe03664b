/** A film: fetched when somebody wants to see it. */
import { createSignal, Show } from "solid-js";
import type { IContent } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { useApp } from "../../model/app.ts";
import { Icon } from "../icons.tsx";
import { Spinner } from "../parts.tsx";
import { FileCard } from "./FileCard.tsx";
import { nameOfFile, sourceOf } from "./media-parts.ts";

export function Film(props: { content: IContent }) {
    const { media } = useApp();
    const [url, setUrl] = createSignal<string | null>(null);
    const [state, setState] = createSignal<"idle" | "busy" | "broken">("idle");
    async function load(): Promise<void> {
        setState("busy");
        try {
            setUrl(await media.url(sourceOf(props.content)!));
        } catch {
            setState("broken");
        }
    }
    return (
        <Show when={state() !== "broken"} fallback={<FileCard content={props.content} />}>
            <Show
                when={url()}
                fallback={
                    <button type="button" class="film" aria-label={t("film.play", { name: nameOfFile(props.content) })} onClick={() => void load()}>
                        {state() === "busy" ? <Spinner /> : <Icon name="play" class="large" />}
                        <span class="file-name"><bdi>{nameOfFile(props.content)}</bdi></span>
                    </button>
                }
            >
                {(shown) => <video class="film" src={shown()} controls autoplay onError={() => setState("broken")} />}
            </Show>
        </Show>
    );
}
