/** Name, picture, address, being found by people near, and the way out. */
import { createResource, createSignal, Show } from "solid-js";
import { t } from "../../i18n/index.ts";
import { prepareAvatar } from "../../lib/pictures.ts";
import { useApp } from "../../model/app.ts";
import { savedRecovery } from "../../session/saved.ts";
import { Avatar } from "../Avatar.tsx";
import { Icon } from "../icons.tsx";
import { attempt, Confirm, copy, Field, say } from "../parts.tsx";
import { useProfile } from "../profile.ts";
import { IntroductionSwitch } from "./IntroductionSwitch.tsx";
import { RecoveryKeyDialog } from "./RecoveryKey.tsx";

export function ProfileSection() {
    const app = useApp();
    const { client, media, extension } = app;
    const me = client.getSafeUserId();
    const profile = useProfile(() => me);
    const [name, setName] = createSignal<string | null>(null);
    const [leaving, setLeaving] = createSignal(false);
    const [showKey, setShowKey] = createSignal(false);
    const [recovery] = createResource(savedRecovery);
    let picture!: HTMLInputElement;

    async function setPicture(file: File): Promise<void> {
        const made = await media.upload(await prepareAvatar(file), false);
        if ("url" in made) await client.setAvatarUrl(made.url);
        say(t("settings.saved"));
    }
    async function save(event: Event): Promise<void> {
        event.preventDefault();
        await client.setDisplayName(name()!.trim());
        setName(null);
        say(t("settings.saved"));
    }
    return (
        <>
            <section class="card centred-card">
                <button type="button" class="avatar-button" aria-label={t("settings.picture")} onClick={() => picture.click()}>
                    <Avatar id={me} name={profile().name} url={profile().avatar_url} size="huge" />
                    <span class="avatar-edit"><Icon name="camera" /></span>
                </button>
                <input ref={picture} type="file" accept="image/*" hidden aria-label={t("settings.picture")} onChange={(event) => event.currentTarget.files?.[0] && attempt(setPicture(event.currentTarget.files[0]))} />
                <form class="wide" onSubmit={(event) => attempt(save(event))}>
                    <Field label={t("setup.name")} value={name() ?? profile().name} onInput={setName} maxLength={100} />
                    <Show when={name() !== null && name()!.trim() && name() !== profile().name}>
                        <button type="submit" class="button primary wide">{t("common.save")}</button>
                    </Show>
                </form>
                <p class="hint">{t("setup.address")}</p>
                <button type="button" class="address-button" title={t("common.copy")} onClick={() => void copy(me)}>{me}</button>
            </section>
            <Show when={extension()}>
                <section class="card">
                    <IntroductionSwitch />
                </section>
            </Show>
            <section class="card menu-card">
                <Show when={recovery()}><button type="button" class="row-button" onClick={() => setShowKey(true)}><Icon name="key" /> <span class="grow">{t("recovery.title")}</span><Icon name="right" /></button></Show>
                <button type="button" class="row-button danger" onClick={() => setLeaving(true)}><Icon name="leave" /> {t("settings.signOut")}</button>
            </section>
            <Show when={leaving()}>
                <Confirm title={t("settings.signOut")} text={recovery() && !recovery()!.saved ? t("settings.signOutUnsaved") : t("settings.signOutText")} action={t("settings.signOut")} danger onConfirm={() => app.signOut()} onClose={() => setLeaving(false)} />
            </Show>
            <Show when={showKey()}><RecoveryKeyDialog onClose={() => setShowKey(false)} /></Show>
        </>
    );
}
