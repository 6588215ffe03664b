/** The first start: a name, a passphrase or none, and whether people near may find one. Everything else is made silently. */
import { createMemo, createSignal, Show } from "solid-js";
import { MatrixError } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { shortServer, slug } from "../../lib/names.ts";
import { route } from "../../lib/router.ts";
import type { Config } from "../../session/config.ts";
import type { Session } from "../../session/saved.ts";
import { register } from "../../session/sign-in.ts";
import { errorText, Field, Switch } from "../parts.tsx";
import { Frame } from "./Frame.tsx";

/** Where they are kept until they are fulfilled: this device may be closed before. */
export const WISHES = "kith.wishes";

export interface Wishes {
    displayname: string;
    nearby: boolean;
}

export function Setup(props: { config: Config; onSession: (session: Session) => void; open?: boolean; onBack?: () => void }) {
    const [name, setName] = createSignal("");
    const [chosen, setChosen] = createSignal<string | null>(null);
    const [withPassphrase, setWithPassphrase] = createSignal(false);
    const [passphrase, setPassphrase] = createSignal("");
    const [nearby, setNearby] = createSignal(false);
    const [busy, setBusy] = createSignal(false);
    const [problem, setProblem] = createSignal<{ field: "name" | "passphrase" | "all"; text: string } | null>(null);
    const username = createMemo(() => chosen() ?? slug(name()));
    const token = () => {
        const now = route();
        return now.at === "setup" ? now.token : null;
    };

    async function submit(event: Event): Promise<void> {
        event.preventDefault();
        if (!username() || !/^[a-z0-9._=\-/+]+$/.test(username())) return void setProblem({ field: "name", text: t("setup.nameNeeded") });
        if (withPassphrase() && passphrase().length < 8) return void setProblem({ field: "passphrase", text: t("setup.passphraseShort") });
        setBusy(true);
        setProblem(null);
        try {
            const session = await register(props.config.base_url, username(), withPassphrase() ? passphrase() : null, props.open ? null : token());
            const wishes: Wishes = { displayname: name().trim() || username(), nearby: nearby() };
            localStorage.setItem(WISHES, JSON.stringify(wishes));
            if (withPassphrase()) remembered = passphrase();
            props.onSession(session);
        } catch (error) {
            setBusy(false);
            setProblem(explained(error));
        }
    }

    return (
        <Frame title={t("setup.title")} lead={t("setup.lead")}>
            <form onSubmit={(event) => void submit(event)} novalidate>
                <Field label={t("setup.name")} value={name()} onInput={setName} autocomplete="name" autofocus maxLength={80} error={problem()?.field === "name" ? problem()!.text : undefined} />
                <Show when={username() || chosen() !== null}>
                    <p class="address" aria-live="polite">
                        <span class="hint">{t("setup.address")}</span>
                        <span class="address-line">
                            @
                            <input
                                class="address-input"
                                aria-label={t("setup.username")}
                                value={username()}
                                size={Math.max(4, username().length)}
                                autocomplete="username"
                                autocapitalize="none"
                                spellcheck={false}
                                onInput={(event) => setChosen(event.currentTarget.value)}
                            />
                            <Show when={props.config.server_name}>{(server) => <span class="quiet">:{shortServer(server())}</span>}</Show>
                        </span>
                    </p>
                </Show>
                <Switch label={t("setup.withPassphrase")} hint={t("setup.passphraseHint")} checked={withPassphrase()} onChange={setWithPassphrase} />
                <Show when={withPassphrase()}>
                    <Field label={t("setup.passphrase")} type="password" value={passphrase()} onInput={setPassphrase} autocomplete="new-password" error={problem()?.field === "passphrase" ? problem()!.text : undefined} />
                </Show>
                <Show when={props.config.kith !== false}>
                    <Switch label={t("introduction.label")} hint={t("introduction.hint")} checked={nearby()} onChange={setNearby} />
                </Show>
                <Show when={problem()?.field === "all"}>
                    <p class="problem" role="alert">{problem()!.text}</p>
                </Show>
                <button type="submit" class="button primary wide" disabled={busy()}>{busy() ? t("setup.busy") : t("setup.submit")}</button>
                <Show when={props.onBack}>
                    <button type="button" class="link-button" onClick={() => props.onBack!()}>{t("signin.instead")}</button>
                </Show>
            </form>
        </Frame>
    );
}

function explained(error: unknown): { field: "name" | "all"; text: string } {
    if (error instanceof MatrixError) {
        if (error.errcode === "M_USER_IN_USE") return { field: "name", text: t("setup.taken") };
        if (error.errcode === "M_INVALID_USERNAME" || error.errcode === "M_EXCLUSIVE") return { field: "name", text: t("setup.nameNeeded") };
        if (error.httpStatus === 401 || error.httpStatus === 403) return { field: "all", text: t("setup.linkUsed") };
    }
    return { field: "all", text: errorText(error) };
}

/** The passphrase of the account that was just made, until its keys are made with it. */
let remembered: string | null = null;
export function takePassphrase(): string | null {
    const taken = remembered;
    remembered = null;
    return taken;
}
export function rememberPassphrase(passphrase: string): void {
    remembered = passphrase;
}
