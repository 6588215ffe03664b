/** The devices of one's account: which are verified, signing others in and out. */
import { createResource, createSignal, For, onCleanup, Show } from "solid-js";
import type { IMyDevice } from "matrix-js-sdk";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api";
import { locale, t } from "../../i18n/index.ts";
import { ago } from "../../lib/dates.ts";
import { keyed } from "../../lib/keyed.ts";
import { safeName } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { authOf, uiaRequest } from "../../session/recovery.ts";
import { savedRecovery } from "../../session/saved.ts";
import { linkForDevice, recoveryKey } from "../../session/sign-in.ts";
import { passwordOf } from "../../session/password.ts";
import { Icon } from "../icons.tsx";
import { attempt, copy, Dialog, errorText, Field, Spinner } from "../parts.tsx";
import { QrCode } from "../add/QrCode.tsx";
import { CompleteDevice } from "./CompleteDevice.tsx";

interface Listed extends IMyDevice {
    verified: boolean;
}

export function DevicesSection() {
    const { client, standing, verifications, config } = useApp();
    const me = client.getSafeUserId();
    const [devices, { refetch }] = createResource(async (): Promise<Listed[]> => {
        const { devices } = await client.getDevices();
        const crypto = client.getCrypto()!;
        await crypto.getUserDeviceInfo([me], true);
        const listed = await Promise.all(devices.map(async (device) => ({ ...device, verified: (await crypto.getDeviceVerificationStatus(me, device.device_id).catch(() => null))?.crossSigningVerified ?? false })));
        return listed.sort((a, b) => Number(b.device_id === client.getDeviceId()) - Number(a.device_id === client.getDeviceId()) || (b.last_seen_ts ?? 0) - (a.last_seen_ts ?? 0));
    });
    const list = keyed("device_id", () => (devices.error ? [] : (devices() ?? [])));
    const [proof, setProof] = createSignal<{ run: (password: string | null) => Promise<void>; title: string } | null>(null);
    const [link, setLink] = createSignal<string | null>(null);
    const [completing, setCompleting] = createSignal(false);
    const again = () => void refetch();
    client.on(CryptoEvent.DevicesUpdated as never, again as never);
    client.on(CryptoEvent.UserTrustStatusChanged as never, again as never);
    onCleanup(() => {
        client.off(CryptoEvent.DevicesUpdated as never, again as never);
        client.off(CryptoEvent.UserTrustStatusChanged as never, again as never);
    });

    /** Does what needs the password: silently where it is made of the recovery key, else it is asked for. */
    async function withProof(title: string, run: (password: string | null) => Promise<void>): Promise<void> {
        const kept = await savedRecovery();
        const key = kept?.is_password ? recoveryKey(kept.encoded) : null;
        try {
            await run(key ? await passwordOf(key) : null);
        } catch (error) {
            if ((error as { httpStatus?: number }).httpStatus !== 401) throw error;
            setProof({ title, run });
        }
    }
    const auth = (password: string | null) => (password === null ? null : authOf(me, password));
    const signOutDevice = (device: IMyDevice) =>
        withProof(t("devices.signOut"), async (password) => {
            await uiaRequest((proof) => client.deleteDevice(device.device_id, proof ?? undefined), auth(password));
            await refetch();
        });
    const linkDevice = () =>
        withProof(t("devices.link"), async (password) => {
            const { login_token } = await uiaRequest((proof) => client.requestLoginToken(proof ?? undefined), auth(password));
            setLink(linkForDevice(config.base_url, login_token));
        });

    return (
        <>
            <section class="card row-card">
                <span><strong>{t("devices.link")}</strong><br /><span class="quiet small">{t("devices.linkHint")}</span></span>
                <button type="button" class="button primary" onClick={() => attempt(linkDevice())}><Icon name="qr" /> {t("devices.linkShow")}</button>
            </section>
            <Show when={standing() === "unverified"}>
                <section class="card row-card">
                    <span>{t("banner.unverified")}</span>
                    <button type="button" class="button" onClick={() => setCompleting(true)}>{t("banner.complete")}</button>
                </section>
            </Show>
            <section class="card">
                <Show when={devices()} fallback={<Show when={devices.error} fallback={<Spinner />}><p class="problem">{errorText(devices.error)}</p></Show>}>
                    <ul class="device-list">
                        <For each={list()}>
                            {(device) => {
                                const own = device.device_id === client.getDeviceId();
                                return (
                                    <li>
                                        <span class="device-icon" classList={{ good: device.verified }}><Icon name={device.verified ? "shield" : "device"} /></span>
                                        <span class="hit-text">
                                            <bdi>{safeName(device.display_name ?? "", 60) || device.device_id}</bdi>
                                            <span class="quiet small">
                                                {own ? t("devices.this") : device.last_seen_ts ? t("devices.seen", { when: ago(device.last_seen_ts, locale()) }) : device.device_id}
                                                {" · "}{device.verified ? t("devices.verified") : t("devices.unverified")}
                                            </span>
                                        </span>
                                        <Show when={!own}>
                                            <span class="device-actions">
                                                <Show when={!device.verified && standing() === "ready"}>
                                                    <button type="button" class="button small" onClick={() => attempt(verifications.begin(client.getCrypto()!.requestDeviceVerification(me, device.device_id)))}>{t("devices.verify")}</button>
                                                </Show>
                                                <button type="button" class="button small danger" onClick={() => attempt(signOutDevice(device))}>{t("devices.signOut")}</button>
                                            </span>
                                        </Show>
                                    </li>
                                );
                            }}
                        </For>
                    </ul>
                </Show>
            </section>
            <Show when={link()}>
                {(shown) => (
                    <Dialog title={t("devices.link")} onClose={() => setLink(null)}>
                        <p>{t("devices.linkText")}</p>
                        <QrCode text={shown()} label={t("devices.link")} />
                        <p class="quiet small">{t("devices.linkExpires")}</p>
                        <div class="actions"><button type="button" class="button" data-link={shown()} onClick={() => void copy(shown())}><Icon name="copy" /> {t("add.copyLink")}</button></div>
                    </Dialog>
                )}
            </Show>
            <Show when={proof()}>{(asked) => <PasswordDialog title={asked().title} onPassword={asked().run} onClose={() => setProof(null)} />}</Show>
            <Show when={completing()}><CompleteDevice onClose={() => setCompleting(false)} /></Show>
        </>
    );
}

function PasswordDialog(props: { title: string; onPassword: (password: string) => Promise<void>; onClose: () => void }) {
    const [password, setPassword] = createSignal("");
    const [problem, setProblem] = createSignal("");
    async function submit(event: Event): Promise<void> {
        event.preventDefault();
        try {
            await props.onPassword(password());
            props.onClose();
        } catch (error) {
            setProblem((error as { httpStatus?: number }).httpStatus === 401 ? t("signin.wrong") : errorText(error));
        }
    }
    return (
        <Dialog title={props.title} onClose={props.onClose}>
            <form onSubmit={(event) => void submit(event)}>
                <Field label={t("setup.passphrase")} type="password" value={password()} onInput={setPassword} autocomplete="current-password" error={problem() || undefined} autofocus />
                <div class="actions"><button type="button" class="button" onClick={() => props.onClose()}>{t("common.cancel")}</button><button type="submit" class="button primary">{props.title}</button></div>
            </form>
        </Dialog>
    );
}

