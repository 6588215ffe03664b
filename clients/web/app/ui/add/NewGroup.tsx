/** A new group: its name, who is in it, and who may come. */
import { createSignal, Show } from "solid-js";
import { t } from "../../i18n/index.ts";
import { slug } from "../../lib/names.ts";
import { go, roomPath } from "../../lib/router.ts";
import { useApp } from "../../model/app.ts";
import { createGroup } from "../../model/rooms.ts";
import { errorText, Field, Switch } from "../parts.tsx";
import { Page } from "../Page.tsx";
import { PeoplePicker } from "./PeoplePicker.tsx";

export function NewGroup() {
    const { client } = useApp();
    const [name, setName] = createSignal("");
    const [topic, setTopic] = createSignal("");
    const [chosen, setChosen] = createSignal<string[]>([]);
    const [open, setOpen] = createSignal(false);
    const [busy, setBusy] = createSignal(false);
    const [problem, setProblem] = createSignal("");
    async function submit(event: Event): Promise<void> {
        event.preventDefault();
        if (!name().trim()) return void setProblem(t("group.nameNeeded"));
        setBusy(true);
        setProblem("");
        try {
            const alias = slug(name());
            go(roomPath(await createGroup(client, { name: name().trim(), topic: topic().trim(), invite: chosen(), open: open(), ...(alias ? { alias } : {}) })));
        } catch (error) {
            setProblem(errorText(error));
            setBusy(false);
        }
    }
    return (
        <Page title={t("add.group")}>
            <form class="card" onSubmit={(event) => void submit(event)} novalidate>
                <Field label={t("group.name")} value={name()} onInput={setName} autofocus maxLength={100} />
                <Field label={t("group.topic")} value={topic()} onInput={setTopic} maxLength={300} />
                <PeoplePicker chosen={chosen()} onChange={setChosen} />
                <Switch label={t("group.open")} hint={open() ? t("group.openHint") : t("group.closedHint")} checked={open()} onChange={setOpen} />
                <Show when={problem()}><p class="problem" role="alert">{problem()}</p></Show>
                <button type="submit" class="button primary wide" disabled={busy()}>{t("group.create")}</button>
            </form>
        </Page>
    );
}
