/** The small sections: appearance and language, notifications, blocked people, storage. */
import { createResource, createSignal, For, onCleanup, Show } from "solid-js";
import { ClientEvent } from "matrix-js-sdk";
import { LANGUAGES, language, locale, setLanguage, t, type Language } from "../../i18n/index.ts";
import { bytes } from "../../lib/dates.ts";
import { localpart } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { notificationWish, setNotificationWish, type Wish } from "../../model/notify.ts";
import { setBlocked } from "../../model/rooms.ts";
import { appearance, setAppearance, type Appearance } from "../appearance.ts";
import { Avatar } from "../Avatar.tsx";
import { attempt, Choice, Field, say, Switch } from "../parts.tsx";
import { readMatrixLink } from "../../lib/links.ts";

export function AppearanceSection() {
    return (
        <section class="card">
            <Choice<Appearance>
                label={t("settings.theme")}
                value={appearance()}
                options={[["system", t("theme.system")], ["light", t("theme.light")], ["dark", t("theme.dark")]]}
                onChange={setAppearance}
            />
            <Choice<Language> label={t("settings.language")} value={language()} options={Object.entries(LANGUAGES) as [Language, string][]} onChange={setLanguage} />
        </section>
    );
}

export function NotificationSection() {
    const [wish, setWish] = createSignal<Wish>(notificationWish());
    const [permission, setPermission] = createSignal(globalThis.Notification?.permission ?? "denied");
    const [receipts, setReceipts] = createSignal(localStorage.getItem("kith.receipts") !== "private");
    return (
        <section class="card">
            <Show when={permission() === "default"}>
                <p>{t("notifications.ask")}</p>
                <button type="button" class="button primary" onClick={() => void Notification.requestPermission().then(setPermission)}>{t("notifications.allow")}</button>
            </Show>
            <Show when={permission() === "denied"}><p class="quiet">{t("notifications.denied")}</p></Show>
            <Choice<Wish>
                label={t("notifications.show")}
                value={wish()}
                options={[["full", t("notifications.full")], ["names", t("notifications.names")], ["off", t("notifications.off")]]}
                onChange={(value) => {
                    setNotificationWish(value);
                    setWish(value);
                }}
            />
            <Switch label={t("notifications.receipts")} hint={t("notifications.receiptsHint")} checked={receipts()} onChange={(on) => {
                localStorage.setItem("kith.receipts", on ? "public" : "private");
                setReceipts(on);
            }} />
        </section>
    );
}

export function BlockedSection() {
    const { client } = useApp();
    const [list, setList] = createSignal(client.getIgnoredUsers());
    const [text, setText] = createSignal("");
    const follow = () => setList(client.getIgnoredUsers());
    client.on(ClientEvent.AccountData, follow);
    onCleanup(() => client.off(ClientEvent.AccountData, follow));
    function block(event: Event): void {
        event.preventDefault();
        const read = readMatrixLink(text());
        if (read?.kind !== "user") return say(t("add.noLink"), "error");
        setText("");
        attempt(setBlocked(client, read.id, true));
    }
    return (
        <section class="card">
            <p class="quiet">{t("blocked.text")}</p>
            <ul class="person-list">
                <For each={list()} fallback={<li class="quiet">{t("blocked.nobody")}</li>}>
                    {(user_id) => (
                        <li class="person">
                            <Avatar id={user_id} name={localpart(user_id)} size="small" />
                            <span class="hit-text address">{user_id}</span>
                            <button type="button" class="button small" onClick={() => attempt(setBlocked(client, user_id, false))}>{t("user.unblock")}</button>
                        </li>
                    )}
                </For>
            </ul>
            <form onSubmit={block}>
                <Field label={t("blocked.add")} value={text()} onInput={setText} placeholder="@mallory:…" />
                <button type="submit" class="button" disabled={!text().trim()}>{t("user.block")}</button>
            </form>
        </section>
    );
}

export function StorageSection() {
    const { media } = useApp();
    const [used, { refetch }] = createResource(() => media.usedBytes());
    const [kept] = createResource(async () => (await navigator.storage?.persisted?.()) ?? false);
    return (
        <section class="card">
            <dl class="facts">
                <dt>{t("storage.used")}</dt>
                <dd>{used() === undefined ? "…" : bytes(used()!, locale())}</dd>
                <dt>{t("storage.kept")}</dt>
                <dd>{kept() ? t("storage.keptYes") : t("storage.keptNo")}</dd>
            </dl>
            <p class="quiet">{t("storage.text")}</p>
            <button type="button" class="button" onClick={() => attempt(media.forget().then(() => {
                void refetch();
                say(t("storage.cleared"));
            }))}>{t("storage.clear")}</button>
        </section>
    );
}
