/** A message that cannot be decrypted (yet): why, and what helps. It heals by itself when its key comes. */
import { createMemo, createSignal, Show } from "solid-js";
import type { MatrixEvent } from "matrix-js-sdk";
import { DecryptionFailureCode } from "matrix-js-sdk/lib/crypto-api";
import { t } from "../../i18n/index.ts";
import { useApp } from "../../model/app.ts";
import { CompleteDevice } from "../settings/CompleteDevice.tsx";
import { Icon } from "../icons.tsx";
import { useRoom } from "./context.ts";

export function Locked(props: { event: MatrixEvent }) {
    const { standing } = useApp();
    const { changes } = useRoom();
    const [open, setOpen] = createSignal(false);
    const [completing, setCompleting] = createSignal(false);
    const why = createMemo(() => {
        changes();
        const code = props.event.decryptionFailureReason;
        if (code === DecryptionFailureCode.HISTORICAL_MESSAGE_USER_NOT_JOINED) return t("locked.notJoined");
        if (standing() === "unverified") return t("locked.unverified");
        if (code === DecryptionFailureCode.HISTORICAL_MESSAGE_NO_KEY_BACKUP || code === DecryptionFailureCode.HISTORICAL_MESSAGE_BACKUP_UNCONFIGURED) return t("locked.noBackup");
        if (code === DecryptionFailureCode.MEGOLM_UNKNOWN_INBOUND_SESSION_ID || code === DecryptionFailureCode.OLM_UNKNOWN_MESSAGE_INDEX) return t("locked.noKey");
        return t("locked.other");
    });
    return (
        <div class="body locked">
            <p><Icon name="lock" /> {t("event.locked")} <button type="button" class="link-button" aria-expanded={open()} onClick={() => setOpen(!open())}>{t("locked.why")}</button></p>
            <Show when={open()}>
                <p class="quiet small">{why()}</p>
                <Show when={standing() === "unverified"}>
                    <button type="button" class="button small" onClick={() => setCompleting(true)}>{t("banner.complete")}</button>
                </Show>
            </Show>
            <Show when={completing()}><CompleteDevice onClose={() => setCompleting(false)} /></Show>
        </div>
    );
}
