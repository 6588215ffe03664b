/** Everything that needs somebody to be signed in: makes the parts that the views share, and ends them. */
import { createEffect, createSignal, on, onCleanup, onMount, Show } from "solid-js";
import { ClientEvent, HttpApiEvent, SyncState, type MatrixClient } from "matrix-js-sdk";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api";
import { t } from "../i18n/index.ts";
import { go, route } from "../lib/router.ts";
import { AppProvider, type App } from "../model/app.ts";
import { createConversations } from "../model/conversations.ts";
import { createDelivery } from "../model/delivery.ts";
import { findExtension, type Extension } from "../model/extension.ts";
import { createKeeper } from "../model/keeper.ts";
import { createMedia } from "../model/media.ts";
import { createNotifications } from "../model/notify.ts";
import { createPeople } from "../model/people.ts";
import { createSearchIndex } from "../model/search.ts";
import { resendAll } from "../model/send.ts";
import { createVerifications } from "../model/verifications.ts";
import type { Config } from "../session/config.ts";
import { forgetEverything, signOut, startClient } from "../session/open.ts";
import { savedRecovery } from "../session/saved.ts";
import { isUnfinished, restore, setUp, standing as standingOf, type Standing } from "../session/recovery.ts";
import { INTRODUCTION } from "./settings/IntroductionSwitch.tsx";
import { Shell } from "./Shell.tsx";
import { takePassphrase, WISHES, type Wishes } from "./start/Setup.tsx";
import { Waiting } from "./Root.tsx";

export function SignedIn(props: { config: Config; client: MatrixClient; onEnd: () => void }) {
    const { client, config } = props;
    const [ready, setReady] = createSignal(false);
    const [online, setOnline] = createSignal(true);
    const [extension, setExtension] = createSignal<Extension | null>(null);
    const [standing, setStanding] = createSignal<Standing>();

    async function refreshStanding(): Promise<void> {
        setStanding(await standingOf(client).catch(() => standing()));
    }

    const onSync = (state: SyncState) => {
        const now = state !== SyncState.Error && state !== SyncState.Reconnecting && state !== SyncState.Catchup;
        const back = now && !online();
        setOnline(now);
        if (back) {
            void resendAll(client);
            if (!extension()) void findExtension(client).then(setExtension, () => {});
        }
    };
    const onLoggedOut = () => void forgetEverything(client).then(props.onEnd);

    client.on(ClientEvent.Sync, onSync);
    client.on(HttpApiEvent.SessionLoggedOut, onLoggedOut);
    client.on(CryptoEvent.KeysChanged as never, refreshStanding as never);
    client.on(CryptoEvent.UserTrustStatusChanged as never, refreshStanding as never);

    const conversations = createConversations(client);
    const people = createPeople(extension);
    const delivery = createDelivery(client, extension);
    const media = createMedia(client);
    const search = createSearchIndex(client);
    const verifications = createVerifications(client, () => {
        // The signatures of what was verified come by sync, soon.
        for (const ms of [0, 1000, 3000, 10_000]) setTimeout(() => void refreshStanding(), ms);
    });
    const keeper = createKeeper(client);
    const isOpen = (room_id: string) => {
        const now = route();
        return now.at === "room" && now.room_id === room_id;
    };
    const notifications = createNotifications(client, isOpen);
    const app: App = {
        client, config, extension, conversations, people, delivery, media, search, verifications, standing, refreshStanding, online,
        async signOut() {
            await signOut(client);
            location.hash = "#/";
            props.onEnd();
        },
    };

    onMount(async () => {
        void findExtension(client).then((found) => {
            setExtension(() => found);
            void people.refresh();
        }, () => {});
        await startClient(client);
        setReady(true);
        setOnline(client.getSyncState() === SyncState.Syncing || client.getSyncState() === SyncState.Prepared);
        void welcome();
    });

    /** What was wished when the account was made, and is done when it has been done. */
    async function fulfil(): Promise<void> {
        const wishes = localStorage.getItem(WISHES);
        if (!wishes) return;
        const { displayname, nearby } = JSON.parse(wishes) as Wishes;
        await client.setDisplayName(displayname);
        if (nearby) await client.setAccountData(INTRODUCTION as never, { nearby } as never);
        localStorage.removeItem(WISHES);
    }

    /** What is done once, after an account was made or a device signed in. */
    async function welcome(): Promise<void> {
        // First of all: whoever is written to soon shall see the name.
        await fulfil().catch((error: unknown) => console.warn("not fulfilled:", error));
        await refreshStanding();
        const passphrase = takePassphrase();
        if (standing() === "none" || (await isUnfinished(client).catch(() => false))) {
            await setUp(client, passphrase).catch((error: unknown) => console.warn("identity not made:", error));
            await refreshStanding();
        }
        // Who signed in with the recovery key has shown it already.
        const kept = await savedRecovery();
        if (standing() === "unverified" && kept) {
            await restore(client, kept.encoded).catch((error: unknown) => console.warn("not restored:", error));
            await refreshStanding();
        }
    }

    createEffect(
        on(route, (now) => {
            if (now.at === "setup" || now.at === "link") go("#/", true);
        }),
    );
    createEffect(() => {
        const unread = conversations.unread();
        document.title = unread ? `(${unread}) kith` : "kith";
        const badge = navigator as Navigator & { setAppBadge?: (n: number) => Promise<void>; clearAppBadge?: () => Promise<void> };
        void (unread ? badge.setAppBadge?.(unread) : badge.clearAppBadge?.())?.catch(() => {});
    });
    onCleanup(() => {
        for (const part of [conversations, people, delivery, search, verifications, notifications, keeper]) part.stop();
        client.off(ClientEvent.Sync, onSync);
        client.off(HttpApiEvent.SessionLoggedOut, onLoggedOut);
        client.stopClient();
    });

    return (
        <AppProvider value={app}>
            <Show when={ready()} fallback={<Waiting text={t("root.opening")} />}>
                <Shell />
            </Show>
        </AppProvider>
    );
}
