/** Quiet lines above what is open: no connection, a device that is not verified yet, a recovery key that is not saved. */
import { createResource, createSignal, Match, Show, Switch } from "solid-js";
import { t } from "../i18n/index.ts";
import { useApp } from "../model/app.ts";
import { savedRecovery } from "../session/saved.ts";
import { Icon } from "./icons.tsx";
import { IconButton } from "./parts.tsx";
import { RecoveryKeyDialog } from "./settings/RecoveryKey.tsx";
import { CompleteDevice } from "./settings/CompleteDevice.tsx";

const LATER_MS = 3 * 24 * 3600_000;

/** On narrow screens what can wait is said in the list alone. */
export function Banners(props: { inList?: boolean }) {
    const { online, standing, conversations } = useApp();
    const [recovery, { refetch }] = createResource(savedRecovery);
    const [showKey, setShowKey] = createSignal(false);
    const [completing, setCompleting] = createSignal(false);
    const [later, setLater] = createSignal(Number(localStorage.getItem("kith.recovery.later") ?? 0));
    const [skipped, setSkipped] = createSignal(false);
    // Gentle: not before there is something that could be lost.
    const remind = () => standing() === "ready" && recovery() && !recovery()!.saved && Date.now() > later() && conversations.list.length > 0;

    return (
        <>
            <Switch>
                <Match when={!online()}>
                    <div class="banner" classList={{ "only-narrow": props.inList }} role="status"><Icon name="offline" /><span>{t("banner.offline")}</span></div>
                </Match>
                <Match when={standing() === "unverified" && !skipped()}>
                    <div class="banner warm" classList={{ "only-narrow": props.inList, "only-wide": !props.inList }}>
                        <Icon name="shield" />
                        <span>{t("banner.unverified")}</span>
                        <button type="button" class="button small" onClick={() => setCompleting(true)}>{t("banner.complete")}</button>
                        <IconButton icon="close" label={t("common.later")} onClick={() => setSkipped(true)} />
                    </div>
                </Match>
                <Match when={remind()}>
                    <div class="banner" classList={{ "only-narrow": props.inList, "only-wide": !props.inList }}>
                        <Icon name="key" />
                        <span>{t("banner.recovery")}</span>
                        <button type="button" class="button small" onClick={() => setShowKey(true)}>{t("banner.saveKey")}</button>
                        <IconButton
                            icon="close"
                            label={t("common.later")}
                            onClick={() => {
                                const until = Date.now() + LATER_MS;
                                localStorage.setItem("kith.recovery.later", String(until));
                                setLater(until);
                            }}
                        />
                    </div>
                </Match>
            </Switch>
            <Show when={showKey()}>
                <RecoveryKeyDialog onClose={() => {
                    setShowKey(false);
                    void refetch();
                }} />
            </Show>
            <Show when={completing()}><CompleteDevice onClose={() => setCompleting(false)} /></Show>
        </>
    );
}
