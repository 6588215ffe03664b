/** Shows the recovery key, to be written down or saved. */
import { createResource, Show } from "solid-js";
import { t } from "../../i18n/index.ts";
import { useApp } from "../../model/app.ts";
import { savedRecovery, saveRecovery } from "../../session/saved.ts";
import { Icon } from "../icons.tsx";
import { copy, Dialog } from "../parts.tsx";
import { saveBlob } from "../save.ts";

export function RecoveryKeyDialog(props: { onClose: () => void }) {
    const { client } = useApp();
    const [recovery] = createResource(savedRecovery);
    const confirm = async () => {
        await saveRecovery({ ...recovery()!, saved: true });
        props.onClose();
    };
    return (
        <Dialog title={t("recovery.title")} onClose={props.onClose}>
            <Show when={recovery()} fallback={<p>{t("recovery.notHere")}</p>}>
                {(kept) => (
                    <>
                        <p>{kept().is_password ? t("recovery.textPassword") : t("recovery.text")}</p>
                        <p class="recovery-key" aria-label={t("recovery.title")}>{kept().encoded}</p>
                        <div class="actions">
                            <button type="button" class="button" onClick={() => void copy(kept().encoded)}><Icon name="copy" /> {t("common.copy")}</button>
                            <button
                                type="button"
                                class="button"
                                onClick={() => saveBlob(new Blob([`kith\n${client.getUserId()}\n${t("recovery.title")}: ${kept().encoded}\n`], { type: "application/octet-stream" }), "kith-recovery-key.txt")}
                            >
                                <Icon name="download" /> {t("common.save")}
                            </button>
                            <button type="button" class="button primary" onClick={() => void confirm()}>{t("recovery.done")}</button>
                        </div>
                    </>
                )}
            </Show>
        </Dialog>
    );
}
