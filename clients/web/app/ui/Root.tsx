/** Decides what there is to see: a start, a sign-in, or the conversations of who is signed in. */
import { createSignal, Match, onMount, Show, Switch } from "solid-js";
import type { MatrixClient } from "matrix-js-sdk";
import { route, go } from "../lib/router.ts";
import { t } from "../i18n/index.ts";
import { loadConfig, type Config } from "../session/config.ts";
import { openClient } from "../session/open.ts";
import { savedSession, saveSession, type Session } from "../session/saved.ts";
import { Logo } from "./Logo.tsx";
import { Setup } from "./start/Setup.tsx";
import { SignIn } from "./start/SignIn.tsx";
import { SignedIn } from "./SignedIn.tsx";
import { Spinner, Toasts } from "./parts.tsx";

type Phase = { is: "loading" } | { is: "signed out"; config: Config } | { is: "elsewhere" } | { is: "signed in"; config: Config; client: MatrixClient } | { is: "broken"; reason: string };

export function Root() {
    const [phase, setPhase] = createSignal<Phase>({ is: "loading" });

    async function begin(steal = false): Promise<void> {
        const config = await loadConfig();
        const session = savedSession();
        if (!session) return void setPhase({ is: "signed out", config });
        if (!(await takeTurn(steal, () => setPhase({ is: "elsewhere" })))) return void setPhase({ is: "elsewhere" });
        await enter(config, session);
    }

    async function enter(config: Config, session: Session): Promise<void> {
        try {
            const client = await openClient(session);
            setPhase({ is: "signed in", config: { ...config, base_url: session.base_url }, client });
        } catch (error) {
            setPhase({ is: "broken", reason: error instanceof Error ? error.message : String(error) });
        }
    }

    async function signedIn(config: Config, session: Session): Promise<void> {
        saveSession(session);
        void navigator.storage?.persist?.();
        setPhase({ is: "loading" });
        go("#/", true);
        await takeTurn(true, () => setPhase({ is: "elsewhere" }));
        await enter(config, session);
    }

    onMount(() => void begin());
    const signedOut = () => {
        const now = phase();
        return now.is === "signed out" ? now : null;
    };
    const inside = () => {
        const now = phase();
        return now.is === "signed in" ? now : null;
    };
    const broken = () => {
        const now = phase();
        return now.is === "broken" ? now : null;
    };
    return (
        <>
            <Switch>
                <Match when={phase().is === "loading"}>
                    <Waiting text={t("common.loading")} />
                </Match>
                <Match when={signedOut()}>
                    {(now) => (
                        <Show when={route().at === "setup"} fallback={<SignIn config={now().config} onSession={(session) => void signedIn(now().config, session)} />}>
                            <Setup config={now().config} onSession={(session) => void signedIn(now().config, session)} />
                        </Show>
                    )}
                </Match>
                <Match when={inside()} keyed>
                    {(now) => <SignedIn config={now.config} client={now.client} onEnd={() => location.reload()} />}
                </Match>
                <Match when={phase().is === "elsewhere"}>
                    <Notice title={t("root.elsewhere")} text={t("root.elsewhereText")} action={t("root.useHere")} onAction={() => location.reload()} steal />
                </Match>
                <Match when={broken()}>
                    {(now) => <Notice title={t("root.broken")} text={now().reason} action={t("root.again")} onAction={() => location.reload()} />}
                </Match>
            </Switch>
            <Toasts />
        </>
    );
}

export function Waiting(props: { text: string }) {
    return (
        <main class="waiting-page" aria-busy="true">
            <Logo class="breathing" />
            <p>{props.text}</p>
            <Spinner />
        </main>
    );
}

function Notice(props: { title: string; text: string; action: string; onAction: () => void; steal?: boolean }) {
    return (
        <main class="waiting-page">
            <Logo />
            <h1>{props.title}</h1>
            <p>{props.text}</p>
            <button
                type="button"
                class="button primary"
                onClick={() => {
                    if (props.steal) sessionStorage.setItem("kith.steal", "yes");
                    props.onAction();
                }}
            >
                {props.action}
            </button>
        </main>
    );
}

/** The keys on this device must not be used by two tabs at once: one has its turn, until another takes it. */
function takeTurn(steal: boolean, lost: () => void): Promise<boolean> {
    const wanted = steal || sessionStorage.getItem("kith.steal") === "yes";
    sessionStorage.removeItem("kith.steal");
    if (!navigator.locks) return Promise.resolve(true);
    let granted = false;
    return new Promise((resolve) => {
        // The page before a reload may take a moment to let go.
        const options: LockOptions = wanted ? { steal: true } : { signal: AbortSignal.timeout(1500) };
        navigator.locks
            .request("kith.session", options, () => {
                granted = true;
                resolve(true);
                return new Promise<void>(() => {});
            })
            .catch(() => {
                if (!granted) return resolve(false);
                // Another tab took it over. A reload ends all that this one was doing.
                lost();
                location.reload();
            });
    });
}
