/** Signing in: by passphrase or recovery key, or by a code or link that another device shows. */
import { createResource, createSignal, onMount, Show } from "solid-js";
import { MatrixError } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { go, route } from "../../lib/router.ts";
import type { Config } from "../../session/config.ts";
import type { Session } from "../../session/saved.ts";
import { isOpen, readDeviceLink, recoveryKey, signIn, signInByToken } from "../../session/sign-in.ts";
import { Icon } from "../icons.tsx";
import { errorText, Field } from "../parts.tsx";
import { Scanner } from "../add/Scanner.tsx";
import { Frame } from "./Frame.tsx";
import { rememberPassphrase, Setup } from "./Setup.tsx";

export function SignIn(props: { config: Config; onSession: (session: Session) => void }) {
    const [user, setUser] = createSignal("");
    const [secret, setSecret] = createSignal("");
    const [server, setServer] = createSignal(props.config.base_url);
    const [busy, setBusy] = createSignal(false);
    const [problem, setProblem] = createSignal("");
    const [scanning, setScanning] = createSignal(false);
    const [creating, setCreating] = createSignal(false);
    const [link, setLink] = createSignal("");
    const [open] = createResource(() => props.config.base_url, isOpen);

    async function run(work: () => Promise<Session>): Promise<void> {
        setBusy(true);
        setProblem("");
        try {
            props.onSession(await work());
        } catch (error) {
            setBusy(false);
            setProblem(error instanceof MatrixError && error.httpStatus === 403 ? t("signin.wrong") : errorText(error));
        }
    }

    function submit(event: Event): void {
        event.preventDefault();
        if (!user().trim() || !secret()) return void setProblem(t("signin.bothNeeded"));
        if (!recoveryKey(secret())) rememberPassphrase(secret());
        void run(() => signIn(server().replace(/\/+$/, ""), user(), secret()));
    }

    function follow(text: string): void {
        setScanning(false);
        const read = readDeviceLink(text);
        if (!read) return void setProblem(t("signin.noLink"));
        // A page that a node serves may only speak to that node; elsewhere the address in the link counts.
        const base_url = props.config.kith ? props.config.base_url : read.base_url;
        void run(() => signInByToken(base_url, read.token));
    }

    onMount(() => {
        const now = route();
        if (now.at !== "link") return;
        const { packed } = now;
        go("#/", true);
        follow(packed);
    });

    return (
        <Show when={!creating()} fallback={<Setup config={props.config} onSession={props.onSession} open onBack={() => setCreating(false)} />}>
            <Frame title={t("signin.title")} lead={t("signin.lead")}>
                <form onSubmit={submit} novalidate>
                    <Field label={t("signin.user")} value={user()} onInput={setUser} autocomplete="username" placeholder="alice" autofocus />
                    <Field label={t("signin.secret")} type="password" value={secret()} onInput={setSecret} autocomplete="current-password" hint={t("signin.secretHint")} />
                    <Show when={!props.config.kith}>
                        <details class="more">
                            <summary>{t("signin.server")}</summary>
                            <Field label={t("signin.serverAddress")} value={server()} onInput={setServer} type="url" autocomplete="url" />
                        </details>
                    </Show>
                    <Show when={problem()}>
                        <p class="problem" role="alert">{problem()}</p>
                    </Show>
                    <button type="submit" class="button primary wide" disabled={busy()}>{busy() ? t("signin.busy") : t("signin.submit")}</button>
                </form>
                <div class="or"><span>{t("common.or")}</span></div>
                <div class="stack">
                    <button type="button" class="button wide" aria-expanded={scanning()} onClick={() => setScanning(!scanning())}>
                        <Icon name="qr" /> {t("signin.byDevice")}
                    </button>
                    <Show when={scanning()}>
                        <div class="panel">
                            <p class="hint">{t("signin.byDeviceHint")}</p>
                            <Scanner onText={follow} />
                            <Field label={t("signin.pasteLink")} value={link()} onInput={setLink} maxLength={4000} />
                            <button type="button" class="button" disabled={!link()} onClick={() => follow(link())}>{t("signin.useLink")}</button>
                        </div>
                    </Show>
                    <Show when={open()}>
                        <button type="button" class="button wide" onClick={() => setCreating(true)}>{t("signin.create")}</button>
                    </Show>
                </div>
            </Frame>
        </Show>
    );
}
