/** A voice message or another sound: played here, with its waves. */
import { createMemo, createSignal, For, onCleanup, Show } from "solid-js";
import type { IContent } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { duration } from "../../lib/dates.ts";
import { useApp } from "../../model/app.ts";
import { IconButton } from "../parts.tsx";
import { FileCard } from "./FileCard.tsx";
import { nameOfFile, sourceOf } from "./media-parts.ts";

const BARS = 40;

export function Sound(props: { content: IContent }) {
    const { media } = useApp();
    const [playing, setPlaying] = createSignal(false);
    const [at, setAt] = createSignal(0);
    const [broken, setBroken] = createSignal(false);
    let audio: HTMLAudioElement | undefined;
    const extra = () => props.content["org.matrix.msc1767.audio"] as { duration?: unknown; waveform?: unknown } | undefined;
    const ms = () => {
        const given: unknown = extra()?.duration ?? props.content.info?.duration;
        return typeof given === "number" && given > 0 && given < 1e8 ? given : 0;
    };
    const bars = createMemo(() => {
        const given = Array.isArray(extra()?.waveform) ? (extra()!.waveform as unknown[]) : [];
        const values = given.slice(0, 2000).map((v) => (typeof v === "number" ? Math.min(1, Math.max(0, v / 1024)) : 0));
        return Array.from({ length: BARS }, (_, i) => (values.length ? values[Math.floor((i * values.length) / BARS)]! : 0.25));
    });

    async function toggle(): Promise<void> {
        try {
            if (!audio) {
                audio = new Audio(await media.url(sourceOf(props.content)!));
                audio.ontimeupdate = () => setAt(audio!.currentTime * 1000);
                audio.onended = () => {
                    setPlaying(false);
                    setAt(0);
                };
                audio.onerror = () => setBroken(true);
            }
            if (playing()) audio.pause();
            else await audio.play();
            setPlaying(!playing());
        } catch {
            setBroken(true);
        }
    }
    onCleanup(() => audio?.pause());
    return (
        <Show when={!broken() && sourceOf(props.content)} fallback={<FileCard content={props.content} />}>
            <div class="sound">
                <IconButton icon={playing() ? "pause" : "play"} label={playing() ? t("sound.pause") : t("sound.play", { name: nameOfFile(props.content) })} onClick={() => void toggle()} />
                <span class="waves" aria-hidden="true">
                    <For each={bars()}>
                        {(value, i) => <span classList={{ heard: ms() > 0 && (i() / BARS) * ms() < at() }} style={{ height: `${Math.round(12 + value * 88)}%` }} />}
                    </For>
                </span>
                <span class="sound-time">{duration(at() || ms())}</span>
            </div>
        </Show>
    );
}
