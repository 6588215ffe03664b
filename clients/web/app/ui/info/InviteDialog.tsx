import { createSignal } from "solid-js";
import type { Room } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { useApp } from "../../model/app.ts";
import { PeoplePicker } from "../add/PeoplePicker.tsx";
import { Dialog, errorText, say } from "../parts.tsx";

/** Chooses who is invited to a room. */
export function InviteDialog(props: { room: Room; onClose: () => void }) {
    const { client } = useApp();
    const [chosen, setChosen] = createSignal<string[]>([]);
    const [busy, setBusy] = createSignal(false);
    async function invite(): Promise<void> {
        setBusy(true);
        for (const user_id of chosen()) {
            try {
                await client.invite(props.room.roomId, user_id);
                setChosen((rest) => rest.filter((each) => each !== user_id));
            } catch (error) {
                say(errorText(error), "error");
            }
        }
        setBusy(false);
        if (!chosen().length) props.onClose();
    }
    return (
        <Dialog title={t("info.invite")} onClose={props.onClose}>
            <PeoplePicker chosen={chosen()} onChange={setChosen} except={props.room.getMembers().filter(({ membership }) => membership === "join" || membership === "invite").map(({ userId }) => userId)} />
            <button type="button" class="button primary wide" disabled={busy() || !chosen().length} onClick={() => void invite()}>{t("info.invite")}</button>
        </Dialog>
    );
}
