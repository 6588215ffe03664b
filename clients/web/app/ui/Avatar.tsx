/** A person's or a room's picture; where there is none, letters on a colour that is always the same for them. */
import { createEffect, createSignal, onCleanup, Show } from "solid-js";
import { colourOf, initials } from "../lib/names.ts";
import { useApp } from "../model/app.ts";

export function Avatar(props: { id: string; name: string; url?: string | null; size?: "small" | "medium" | "large" | "huge"; near?: boolean; group?: boolean }) {
    const { media } = useApp();
    const [shown, setShown] = createSignal<string | null>(null);
    createEffect(() => {
        const mxc = props.url;
        setShown(null);
        if (!mxc) return;
        let alive = true;
        onCleanup(() => (alive = false));
        const edge = props.size === "huge" || props.size === "large" ? 256 : 96;
        media.avatar(mxc, edge).then(
            (url) => alive && setShown(url),
            () => {},
        );
    });
    return (
        <span class={`avatar ${props.size ?? "medium"} hue-${colourOf(props.id, 8)}`} classList={{ group: props.group }} aria-hidden="true">
            <Show when={shown()} fallback={<span class="letters" data-letters={initials(props.name)} />}>
                {(url) => <img src={url()} alt="" draggable={false} onError={() => setShown(null)} />}
            </Show>
            <Show when={props.near}>
                <span class="near-dot" />
            </Show>
        </span>
    );
}
