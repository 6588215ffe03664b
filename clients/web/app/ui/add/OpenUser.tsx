/** A person, before or beside a conversation with them. */
import { createEffect, createMemo, createResource, createSignal, on, onCleanup, Show } from "solid-js";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api";
import { t } from "../../i18n/index.ts";
import { serverOf } from "../../lib/names.ts";
import { go, roomPath } from "../../lib/router.ts";
import { useApp } from "../../model/app.ts";
import { directRoom, setBlocked, startDirect } from "../../model/rooms.ts";
import { Avatar } from "../Avatar.tsx";
import { Icon } from "../icons.tsx";
import { attempt, copy, errorText, say } from "../parts.tsx";
import { Page } from "../Page.tsx";
import { useProfile } from "../profile.ts";
import { useNear } from "../Near.tsx";

export function OpenUser(props: { user_id: string }) {
    const { client, people, verifications } = useApp();
    const profile = useProfile(() => props.user_id);
    const near = useNear();
    const [busy, setBusy] = createSignal(false);
    const [blocked, setBlockedSignal] = createSignal(client.isUserIgnored(props.user_id));
    const shown = createMemo(() => {
        const neighbour = near().find((each) => each.user_id === props.user_id);
        return neighbour ? { name: neighbour.name, avatar_url: neighbour.avatar_url ?? null } : profile();
    });
    const [verified, { refetch }] = createResource(() => client.getCrypto()!.getUserVerificationStatus(props.user_id).catch(() => null));
    const again = () => void refetch();
    client.on(CryptoEvent.UserTrustStatusChanged, again);
    onCleanup(() => client.off(CryptoEvent.UserTrustStatusChanged, again));
    // What was verified here is known at once, whether or not the homeserver has told it back.
    createEffect(on(verifications.current, (now) => !now && again(), { defer: true }));
    async function write(): Promise<void> {
        setBusy(true);
        try {
            go(roomPath(await startDirect(client, props.user_id)));
        } catch (error) {
            say(errorText(error), "error");
            setBusy(false);
        }
    }
    async function verify(): Promise<void> {
        const room_id = directRoom(client, props.user_id)?.roomId ?? (await startDirect(client, props.user_id));
        await verifications.begin(client.getCrypto()!.requestVerificationDM(props.user_id, room_id));
    }
    return (
        <Page title={t("user.title")}>
            <section class="card centred-card">
                <Avatar id={props.user_id} name={shown().name} url={shown().avatar_url} size="huge" near={people.isNear(serverOf(props.user_id))} />
                <h2 class="big"><bdi>{shown().name}</bdi></h2>
                <button type="button" class="address-button" title={t("common.copy")} onClick={() => void copy(props.user_id)}>{props.user_id}</button>
                <Show when={people.isNear(serverOf(props.user_id))}><p class="lively"><Icon name="near" /> {t("near.here")}</p></Show>
                <Show when={verified()?.isCrossSigningVerified()}><p class="lively"><Icon name="shield" /> {t("user.verified")}</p></Show>
                <div class="actions centred">
                    <button type="button" class="button primary" disabled={busy() || blocked()} onClick={() => void write()}>{busy() ? t("user.opening") : t("user.write")}</button>
                    <Show when={verified() && !verified()!.isCrossSigningVerified()}>
                        <button type="button" class="button" onClick={() => attempt(verify())}><Icon name="shield" /> {t("user.verify")}</button>
                    </Show>
                </div>
                <button
                    type="button"
                    class="link-button danger"
                    onClick={() => {
                        attempt(setBlocked(client, props.user_id, !blocked()));
                        setBlockedSignal(!blocked());
                    }}
                >
                    {blocked() ? t("user.unblock") : t("user.block")}
                </button>
            </section>
        </Page>
    );
}
