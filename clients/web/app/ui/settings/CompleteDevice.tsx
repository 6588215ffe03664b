/** Makes a device that has just signed in one of the account's own: by another device, or by the recovery key. */
import { createSignal, Show } from "solid-js";
import { t } from "../../i18n/index.ts";
import { useApp } from "../../model/app.ts";
import { NoRecoveryKey, restore } from "../../session/recovery.ts";
import { Icon } from "../icons.tsx";
import { attempt, Dialog, errorText, Field, say } from "../parts.tsx";

export function CompleteDevice(props: { onClose: () => void }) {
    const { client, verifications, refreshStanding } = useApp();
    const [key, setKey] = createSignal("");
    const [busy, setBusy] = createSignal(false);
    const [problem, setProblem] = createSignal("");

    async function submit(event: Event): Promise<void> {
        event.preventDefault();
        setBusy(true);
        setProblem("");
        try {
            await restore(client, key());
            await refreshStanding();
            say(t("complete.restored"));
            props.onClose();
        } catch (error) {
            setProblem(error instanceof NoRecoveryKey ? t("complete.wrongKey") : errorText(error));
        } finally {
            setBusy(false);
        }
    }

    return (
        <Dialog title={t("complete.title")} onClose={props.onClose}>
            <p>{t("complete.text")}</p>
            <button
                type="button"
                class="button primary wide"
                onClick={() => {
                    attempt(verifications.begin(client.getCrypto()!.requestOwnUserVerification()));
                    props.onClose();
                }}
            >
                <Icon name="device" /> {t("complete.byDevice")}
            </button>
            <div class="or"><span>{t("common.or")}</span></div>
            <form onSubmit={(event) => void submit(event)}>
                <Field label={t("recovery.title")} value={key()} onInput={setKey} error={problem() || undefined} hint={t("complete.keyHint")} />
                <button type="submit" class="button wide" disabled={busy() || !key().trim()}>{busy() ? t("complete.busy") : t("complete.byKey")}</button>
            </form>
            <Show when={busy()}><p class="hint" role="status">{t("complete.busyHint")}</p></Show>
        </Dialog>
    );
}
