/** Verification, step by step, with a way out at each. */
import { createSignal, For, Match, Show, Switch } from "solid-js";
import { VerificationPhase } from "matrix-js-sdk/lib/crypto-api";
import { t } from "../i18n/index.ts";
import { localpart, safeName } from "../lib/names.ts";
import { useApp } from "../model/app.ts";
import type { Current } from "../model/verifications.ts";
import { QrCode } from "./add/QrCode.tsx";
import { Scanner } from "./add/Scanner.tsx";
import { Icon } from "./icons.tsx";
import { attempt, Dialog, Spinner } from "./parts.tsx";
import { knownName } from "./profile.ts";

export function VerificationDialog(props: { current: Current }) {
    const { client, verifications } = useApp();
    const [scanning, setScanning] = createSignal(false);
    const [confirmed, setConfirmed] = createSignal(false);
    const request = () => (void props.current.version, props.current.request);
    const name = () => {
        const id = request().otherUserId;
        return request().isSelfVerification ? t("verify.otherDevice") : safeName(knownName(client, id) ?? localpart(id), 60);
    };
    const title = () => (request().isSelfVerification ? t("verify.titleSelf") : t("verify.title", { name: name() }));
    const phase = () => request().phase;
    const supports = (method: string) => request().otherPartySupportsMethod(method);
    const Cancel = () => <button type="button" class="button" onClick={() => attempt(verifications.cancel())}>{t("common.cancel")}</button>;

    return (
        <Dialog title={title()} onClose={() => attempt(verifications.cancel())}>
            <Switch fallback={<Waiting text={t("verify.waiting")} />}>
                <Match when={phase() === VerificationPhase.Done}>
                    <div class="verify-end good"><Icon name="shield" class="large" /><p>{request().isSelfVerification ? t("verify.doneSelf") : t("verify.done", { name: name() })}</p></div>
                    <div class="actions"><button type="button" class="button primary" onClick={() => verifications.close()}>{t("common.done")}</button></div>
                </Match>
                <Match when={phase() === VerificationPhase.Cancelled}>
                    <div class="verify-end"><Icon name="alert" class="large" /><p>{reason(request().cancellationCode)}</p></div>
                    <div class="actions"><button type="button" class="button primary" onClick={() => verifications.close()}>{t("common.close")}</button></div>
                </Match>
                <Match when={props.current.scanned && !confirmed()}>
                    <p>{t("verify.scanned", { name: name() })}</p>
                    <div class="actions">
                        <button type="button" class="button" onClick={() => props.current.scanned!.cancel()}>{t("verify.no")}</button>
                        <button type="button" class="button primary" onClick={() => {
                            setConfirmed(true);
                            props.current.scanned!.confirm();
                        }}>{t("verify.yes")}</button>
                    </div>
                </Match>
                <Match when={props.current.sas && !confirmed()}>
                    <p>{t("verify.compare", { name: name() })}</p>
                    <ul class="emoji-row">
                        <For each={props.current.sas!.sas.emoji ?? []}>{([symbol, label]) => <li><span class="emoji" aria-hidden="true">{symbol}</span><span>{label}</span></li>}</For>
                    </ul>
                    <Show when={!props.current.sas!.sas.emoji}><p class="big">{props.current.sas!.sas.decimal?.join(" · ")}</p></Show>
                    <div class="actions">
                        <button type="button" class="button" onClick={() => attempt(verifications.cancel(true))}>{t("verify.differ")}</button>
                        <button type="button" class="button primary" onClick={() => {
                            setConfirmed(true);
                            attempt(props.current.sas!.confirm());
                        }}>{t("verify.match")}</button>
                    </div>
                </Match>
                <Match when={phase() === VerificationPhase.Requested && !request().initiatedByMe}>
                    <p>{request().isSelfVerification ? t("verify.askedSelf") : t("verify.asked", { name: name() })}</p>
                    <div class="actions">
                        <button type="button" class="button" onClick={() => attempt(verifications.cancel())}>{t("verify.decline")}</button>
                        <button type="button" class="button primary" disabled={request().accepting} onClick={() => attempt(verifications.accept())}>{t("verify.start")}</button>
                    </div>
                </Match>
                <Match when={phase() === VerificationPhase.Requested || phase() === VerificationPhase.Unsent}>
                    <Waiting text={t("verify.waitingFor", { name: name() })} />
                    <div class="actions"><Cancel /></div>
                </Match>
                <Match when={phase() === VerificationPhase.Ready && scanning()}>
                    <p>{t("verify.scanHint")}</p>
                    <Scanner onBytes={(bytes) => attempt(verifications.scan(bytes).then(() => setScanning(false)))} />
                    <div class="actions"><button type="button" class="button" onClick={() => setScanning(false)}>{t("common.back")}</button><Cancel /></div>
                </Match>
                <Match when={phase() === VerificationPhase.Ready}>
                    <p>{props.current.code ? t("verify.how") : t("verify.howEmoji")}</p>
                    <Show when={props.current.code}>{(code) => <QrCode bytes={code()} label={t("verify.code")} />}</Show>
                    <div class="stack">
                        <Show when={supports("m.qr_code.show.v1")}><button type="button" class="button wide" onClick={() => setScanning(true)}><Icon name="camera" /> {t("verify.scan")}</button></Show>
                        <button type="button" class="button primary wide" onClick={() => attempt(verifications.startEmoji())}><Icon name="smile" /> {t("verify.emoji")}</button>
                        <Cancel />
                    </div>
                </Match>
                <Match when={phase() === VerificationPhase.Started}>
                    <Waiting text={confirmed() ? t("verify.waitingConfirm", { name: name() }) : t("verify.waiting")} />
                    <div class="actions"><Cancel /></div>
                </Match>
            </Switch>
        </Dialog>
    );
}

function Waiting(props: { text: string }) {
    return <p class="verify-wait" role="status"><Spinner /> {props.text}</p>;
}

function reason(code: string | null): string {
    if (code === "m.mismatched_sas" || code === "m.key_mismatch") return t("verify.mismatch");
    if (code === "m.timeout") return t("verify.timeout");
    return t("verify.cancelled");
}
