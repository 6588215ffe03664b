/** Where one writes: text with Markdown, answers and changes, files, voice. Drafts are kept. */
import { createEffect, createMemo, createSignal, For, on, onCleanup, onMount, Show } from "solid-js";
import { t } from "../../i18n/index.ts";
import { safeName } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { nameOf, summaryOf } from "../../model/preview.ts";
import { sendText } from "../../model/send.ts";
import { Icon } from "../icons.tsx";
import { errorText, IconButton, say } from "../parts.tsx";
import { EmojiPicker } from "./EmojiPicker.tsx";
import { MentionList, mentionAt, type Mention } from "./mentions.tsx";
import { contextOf, sendFiles, useRoom } from "./context.ts";
import { VoiceRecorder } from "./VoiceRecorder.tsx";

export function Composer() {
    const { client, conversations } = useApp();
    const here = useRoom();
    const { room, acting, setActing, changes, thread_id, uploads } = here;
    const draftKey = `kith.draft.${room.roomId}${thread_id ? `.${thread_id}` : ""}`;
    const [text, setText] = createSignal(localStorage.getItem(draftKey) ?? "");
    const [recording, setRecording] = createSignal(false);
    const [emoji, setEmoji] = createSignal(false);
    const [mention, setMention] = createSignal<Mention | null>(null);
    const mentioned = new Map<string, string>();
    let area!: HTMLTextAreaElement;
    let files!: HTMLInputElement;
    const may = createMemo(() => (changes(), room.currentState.maySendMessage(client.getSafeUserId())));

    function fit(): void {
        // Where one may not write, there is none.
        if (!area) return;
        area.style.height = "auto";
        area.style.height = `${Math.min(area.scrollHeight, 220)}px`;
    }

    function keep(value: string): void {
        if (acting().is === "editing") return;
        if (value) localStorage.setItem(draftKey, value);
        else localStorage.removeItem(draftKey);
    }

    let typingSince = 0;
    function type(value: string): void {
        setText(value);
        keep(value);
        setMention(mentionAt(value, area.selectionStart, room));
        const now = Date.now();
        if (value && now - typingSince > 4000) {
            typingSince = now;
            void client.sendTyping(room.roomId, true, 8000).catch(() => {});
        } else if (!value && typingSince) stopTyping();
    }
    function stopTyping(): void {
        if (!typingSince) return;
        typingSince = 0;
        void client.sendTyping(room.roomId, false, 0).catch(() => {});
    }

    createEffect(
        on(acting, (now, before) => {
            if (now.is === "editing") {
                setText(String(now.event.getContent().body ?? ""));
                area.focus();
            } else if (before?.is === "editing") setText(localStorage.getItem(draftKey) ?? "");
            if (now.is === "replying") area.focus();
        }),
    );
    createEffect(() => {
        text();
        queueMicrotask(fit);
    });
    onMount(() => matchMedia("(min-width: 48rem) and (hover: hover)").matches && area?.focus({ preventScroll: true }));
    onCleanup(() => {
        stopTyping();
        conversations.touch(room.roomId);
    });

    function submit(): void {
        const value = text().trim();
        if (!value) return;
        const mentions = [...mentioned].filter(([, name]) => value.includes(name)).map(([id]) => id);
        const where = contextOf(here);
        setText("");
        localStorage.removeItem(draftKey);
        setActing({ is: "writing" });
        mentioned.clear();
        stopTyping();
        // A message that could not be sent stands in the conversation and says so there.
        sendText(client, room, value, where, mentions).catch((error: unknown) => {
            if ((error as Error).name !== "ConnectionError") say(errorText(error), "error");
        });
        area.focus();
    }

    function insert(what: string): void {
        const [start, end] = [area.selectionStart, area.selectionEnd];
        type(text().slice(0, start) + what + text().slice(end));
        queueMicrotask(() => {
            area.focus();
            area.setSelectionRange(start + what.length, start + what.length);
        });
    }

    function choose(user_id: string, name: string): void {
        const open = mention();
        if (!open) return;
        mentioned.set(user_id, name);
        const before = text().slice(0, open.start);
        type(`${before}${name} ${text().slice(open.end)}`);
        setMention(null);
        area.focus();
    }

    function lastOwn() {
        const rows = room.getLiveTimeline().getEvents();
        return [...rows].reverse().find((event) => event.getSender() === client.getUserId() && event.getContent().msgtype === "m.text" && !event.isRedacted() && !event.isRelation("m.replace"));
    }

    function onKeyDown(event: KeyboardEvent): void {
        if (event.isComposing) return;
        if (mention() && MentionList.key(event)) return;
        if (event.key === "Enter" && !event.shiftKey) {
            event.preventDefault();
            submit();
        } else if (event.key === "Escape" && acting().is !== "writing") setActing({ is: "writing" });
        else if (event.key === "ArrowUp" && !text() && !thread_id) {
            const own = lastOwn();
            if (own) {
                event.preventDefault();
                setActing({ is: "editing", event: own });
            }
        }
    }

    function onPaste(event: ClipboardEvent): void {
        const pasted = [...(event.clipboardData?.files ?? [])];
        if (!pasted.length) return;
        event.preventDefault();
        sendFiles(here, pasted);
    }

    const about = () => {
        const now = acting();
        return now.is === "replying" ? { title: t("composer.replyingTo", { name: nameOf(now.to, room) }), line: summaryOf(now.to) } : now.is === "editing" ? { title: t("composer.editing"), line: summaryOf(now.event) } : null;
    };

    return (
        <Show when={may()} fallback={<p class="composer-closed">{t("composer.closed")}</p>}>
            <div class="composer">
                <Show when={about()}>
                    {(now) => (
                        <div class="composer-about">
                            <span class="composer-about-text"><strong><bdi>{now().title}</bdi></strong><span dir="auto">{now().line}</span></span>
                            <IconButton icon="close" label={t("common.cancel")} onClick={() => setActing({ is: "writing" })} />
                        </div>
                    )}
                </Show>
                <For each={uploads.running()}>
                    {(upload) => (
                        <div class="upload">
                            <Icon name="attach" /><bdi>{safeName(upload.name, 40)}</bdi>
                            <progress max="1" value={upload.part} aria-label={t("composer.sendingFile", { name: upload.name })} />
                        </div>
                    )}
                </For>
                <Show when={!recording()} fallback={<VoiceRecorder context={contextOf(here)} onClose={() => setRecording(false)} />}>
                    <Show when={mention()}>{(open) => <MentionList open={open()} onChoose={choose} onClose={() => setMention(null)} />}</Show>
                    <div class="composer-row">
                        <IconButton icon="attach" label={t("composer.attach")} onClick={() => files.click()} />
                        <input
                            ref={files}
                            type="file"
                            multiple
                            hidden
                            aria-label={t("composer.attach")}
                            onChange={(event) => {
                                sendFiles(here, [...(event.currentTarget.files ?? [])]);
                                event.currentTarget.value = "";
                            }}
                        />
                        <div class="composer-field">
                            <textarea
                                ref={area}
                                rows={1}
                                dir="auto"
                                value={text()}
                                placeholder={t("composer.placeholder")}
                                aria-label={t("composer.placeholder")}
                                onInput={(event) => type(event.currentTarget.value)}
                                onKeyDown={onKeyDown}
                                onPaste={onPaste}
                                onBlur={() => setTimeout(() => setMention(null), 200)}
                            />
                            <IconButton icon="smile" label={t("composer.emoji")} expanded={emoji()} onClick={() => setEmoji(!emoji())} />
                        </div>
                        <Show
                            when={text().trim()}
                            fallback={<IconButton icon="mic" label={t("composer.voice")} class="filled" onClick={() => setRecording(true)} />}
                        >
                            <IconButton icon="send" label={t("composer.send")} class="filled" onClick={submit} />
                        </Show>
                    </div>
                    <Show when={emoji()}><EmojiPicker onChoose={insert} onClose={() => setEmoji(false)} /></Show>
                </Show>
            </div>
        </Show>
    );
}
