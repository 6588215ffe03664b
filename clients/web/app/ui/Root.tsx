/** Decides what there is to see: a start, a sign-in, or the conversations of who is signed in. */
import { createSignal, Match, onCleanup, onMount, Show, Switch } from "solid-js";
import type { MatrixClient } from "matrix-js-sdk";
import { route, go } from "../lib/router.ts";
import { t } from "../i18n/index.ts";
import { loadConfig, type Config } from "../session/config.ts";
import { openClient } from "../session/open.ts";
import { requestTurn, type Turn } from "../session/turn.ts";
import { savedSession, saveSession, type Session } from "../session/saved.ts";
import { Logo } from "./Logo.tsx";
import { Setup } from "./start/Setup.tsx";
import { SignIn } from "./start/SignIn.tsx";
import { SignedIn } from "./SignedIn.tsx";
import { Spinner, Toasts } from "./parts.tsx";

type Phase =
    | { is: "loading" }
    | { is: "signed out"; config: Config }
    | { is: "elsewhere"; turn: Turn }
    | { is: "signed in"; config: Config; client: MatrixClient }
    | { is: "broken"; reason: string };

/** The tab that was open before a reload may take a moment to let go. */
const ELSEWHERE_AFTER_MS = 1500;

export function Root() {
    const [phase, setPhase] = createSignal<Phase>({ is: "loading" });

    async function begin(): Promise<void> {
        const config = await loadConfig();
        if (!savedSession()) return void setPhase({ is: "signed out", config });
        const turn = requestTurn(letGo);
        const late = setTimeout(() => setPhase({ is: "elsewhere", turn }), ELSEWHERE_AFTER_MS);
        await turn.mine;
        clearTimeout(late);
        // The other tab may have signed out meanwhile.
        const session = savedSession();
        if (!session) return void setPhase({ is: "signed out", config });
        setPhase({ is: "loading" });
        await enter(config, session);
    }

    /** Another tab takes over. A reload ends all that this one was doing; it then waits for its turn. */
    function letGo(): void {
        const now = phase();
        if (now.is === "signed in") now.client.stopClient();
        location.reload();
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
        const turn = requestTurn(letGo);
        turn.take();
        await turn.mine;
        await enter(config, session);
    }

    onMount(() => void begin());
    // Another tab signed in while this one asked who is there.
    const onStorage = (event: StorageEvent) => event.key === "kith.session" && event.newValue && phase().is === "signed out" && location.reload();
    addEventListener("storage", onStorage);
    onCleanup(() => removeEventListener("storage", onStorage));
    const signedOut = () => {
        const now = phase();
        return now.is === "signed out" ? now : null;
    };
    const inside = () => {
        const now = phase();
        return now.is === "signed in" ? now : null;
    };
    const elsewhere = () => {
        const now = phase();
        return now.is === "elsewhere" ? now : null;
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
                <Match when={elsewhere()}>
                    {(now) => (
                        <Notice title={t("root.elsewhere")} text={t("root.elsewhereText")} action={t("root.useHere")} onAction={() => {
                            now().turn.take();
                            setPhase({ is: "loading" });
                        }} />
                    )}
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

function Notice(props: { title: string; text: string; action: string; onAction: () => void }) {
    return (
        <main class="waiting-page">
            <Logo />
            <h1>{props.title}</h1>
            <p>{props.text}</p>
            <button type="button" class="button primary" onClick={() => props.onAction()}>{props.action}</button>
        </main>
    );
}
