/** What a message holds: a text, a picture, a file, a sound; anything unknown as a plain placeholder. */
import { createEffect, createMemo, createSignal, For, Match, Show, Switch } from "solid-js";
import { EventType, MsgType, type IContent, type MatrixEvent } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { readMatrixLink } from "../../lib/links.ts";
import { go, path, roomPath } from "../../lib/router.ts";
import { sanitised } from "../../lib/sanitise.ts";
import { cut, linked, onlyEmoji, withoutFallback } from "../../lib/text.ts";
import { useApp } from "../../model/app.ts";
import { nameOf } from "../../model/preview.ts";
import { Icon } from "../icons.tsx";
import { FileCard } from "./FileCard.tsx";
import { Locked } from "./Locked.tsx";
import { Photo } from "./Photo.tsx";
import { Sound } from "./Sound.tsx";
import { Film } from "./Film.tsx";
import { useRoom } from "./context.ts";

export function Content(props: { event: MatrixEvent }) {
    const { changes, room } = useRoom();
    const kind = createMemo(() => {
        changes();
        const { event } = props;
        if (event.isDecryptionFailure()) return "locked";
        if (event.getType() === EventType.RoomMessageEncrypted) return event.isBeingDecrypted() || event.shouldAttemptDecryption() ? "decrypting" : "locked";
        if (event.getType() === EventType.Sticker) return "photo";
        if (event.getType() !== EventType.RoomMessage) return "unknown";
        switch (event.getContent().msgtype) {
            case MsgType.Image: return "photo";
            case MsgType.File: return "file";
            case MsgType.Audio: return "sound";
            case MsgType.Video: return "film";
            case MsgType.Text: case MsgType.Notice: case MsgType.Emote: return "text";
            default: return typeof event.getContent().body === "string" ? "text" : "unknown";
        }
    });
    // The same object as long as it says the same: what is drawn stays as it is.
    const content = createMemo<IContent>(() => (changes(), props.event.getContent()));
    return (
        <Switch>
            <Match when={kind() === "text"}><Text content={content()} emoteOf={content().msgtype === MsgType.Emote ? nameOf(props.event, room) : undefined} /></Match>
            <Match when={kind() === "photo"}><Photo content={content()} /><Caption content={content()} /></Match>
            <Match when={kind() === "file"}><FileCard content={content()} /><Caption content={content()} /></Match>
            <Match when={kind() === "sound"}><Sound content={content()} /></Match>
            <Match when={kind() === "film"}><Film content={content()} /><Caption content={content()} /></Match>
            <Match when={kind() === "decrypting"}><p class="body quiet"><Icon name="lock" /> {t("event.decrypting")}</p></Match>
            <Match when={kind() === "locked"}><Locked event={props.event} /></Match>
            <Match when={kind() === "unknown"}><p class="body quiet"><Icon name="file" /> {t("event.unknown")} <code>{props.event.getType().slice(0, 80)}</code></p></Match>
        </Switch>
    );
}

/** A file's body is a caption where it is not the file's name (client-server API, "Media captions"). */
function Caption(props: { content: IContent }) {
    const has = () => typeof props.content.filename === "string" && typeof props.content.body === "string" && props.content.body !== props.content.filename;
    return <Show when={has()}><Text content={props.content} /></Show>;
}

function Text(props: { content: IContent; emoteOf?: string | undefined }) {
    const { client } = useApp();
    const [whole, setWhole] = createSignal(false);
    const body = createMemo(() => (typeof props.content.body === "string" ? withoutFallback(props.content.body) : ""));
    const fragment = createMemo(() => {
        const { format, formatted_body } = props.content;
        return format === "org.matrix.custom.html" && typeof formatted_body === "string" ? sanitised(formatted_body) : null;
    });
    const shown = createMemo(() => cut(body()));
    // All of it is shown as plain text, so that even a huge one is cheap; the rest of a gigantic one can be copied elsewhere.
    const text = () => (whole() ? body().slice(0, 200_000) : shown().text);

    function onClick(event: MouseEvent): void {
        const spoiler = (event.target as HTMLElement).closest(".spoiler");
        spoiler?.classList.toggle("revealed");
        const link = (event.target as HTMLElement).closest("a");
        const read = link && readMatrixLink(link.getAttribute("href") ?? "");
        if (!read) return;
        event.preventDefault();
        if (read.kind === "user") go(path("user", read.id));
        else {
            const known = read.id.startsWith("#") ? client.getRooms().find((each) => each.getCanonicalAlias() === read.id)?.roomId : read.id;
            go(roomPath(known ?? read.id, ...(read.event_id ? [read.event_id] : [])));
        }
    }

    function Html(inner: { fragment: DocumentFragment }) {
        let place!: HTMLDivElement;
        createEffect(() => {
            const copy = inner.fragment.cloneNode(true) as DocumentFragment;
            for (const link of copy.querySelectorAll("a")) {
                if (readMatrixLink(link.getAttribute("href") ?? "")?.kind === "user") link.classList.add("mention");
            }
            place.replaceChildren(copy);
        });
        return <div class="body formatted" dir="auto" ref={place} onClick={onClick} />;
    }

    return (
        <>
            <Show when={props.emoteOf}>{(name) => <span class="emote">* <bdi>{name()}</bdi></span>}</Show>
            <Show
                when={fragment()}
                fallback={
                    <p class="body" classList={{ "only-emoji": onlyEmoji(body()) }} dir="auto" onClick={onClick}>
                        <For each={linked(text())}>
                            {(piece) => (piece.href ? <a href={piece.href} target="_blank" rel="noopener noreferrer nofollow">{piece.text}</a> : piece.text)}
                        </For>
                        <Show when={shown().more}>
                            {" "}<button type="button" class="link-button" onClick={() => setWhole(!whole())}>{whole() ? t("message.less") : t("message.more")}</button>
                        </Show>
                    </p>
                }
            >
                {(html) => <Html fragment={html()} />}
            </Show>
        </>
    );
}
