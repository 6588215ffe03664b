/** Chooses people: those one writes to, those near, and any by their full name. */
import { createMemo, createSignal, For, Show } from "solid-js";
import { t } from "../../i18n/index.ts";
import { readMatrixLink } from "../../lib/links.ts";
import { localpart, safeName, shortUser } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { Avatar } from "../Avatar.tsx";
import { Field, IconButton } from "../parts.tsx";
import { useNear } from "../Near.tsx";
import { knownName } from "../profile.ts";

const MAX = 40;

export function PeoplePicker(props: { chosen: string[]; onChange: (chosen: string[]) => void; except?: string[] }) {
    const { conversations, client } = useApp();
    const near = useNear();
    const [query, setQuery] = createSignal("");
    const nameOf = (user_id: string) => safeName(near().find((each) => each.user_id === user_id)?.name ?? knownName(client, user_id) ?? localpart(user_id), 60);
    const candidates = createMemo(() => {
        const wanted = query().trim().toLowerCase();
        const ids = new Set([...near().map((each) => each.user_id), ...conversations.list.flatMap((each) => each.direct_user_id ?? [])]);
        if (wanted.length > 1) client.getUsers().forEach((user) => ids.add(user.userId));
        const exact = readMatrixLink(query());
        if (exact?.kind === "user") ids.add(exact.id);
        const out = new Set([client.getSafeUserId(), ...(props.except ?? [])]);
        return [...ids].filter((id) => !out.has(id) && (!wanted || id === exact?.id || nameOf(id).toLowerCase().includes(wanted) || id.includes(wanted))).slice(0, MAX);
    });
    const toggle = (id: string) => props.onChange(props.chosen.includes(id) ? props.chosen.filter((each) => each !== id) : [...props.chosen, id]);
    return (
        <fieldset class="people-picker">
            <legend>{t("group.people")}</legend>
            <Show when={props.chosen.length}>
                <ul class="chips">
                    <For each={props.chosen}>{(id) => <li class="chip"><bdi>{nameOf(id)}</bdi><IconButton icon="close" label={t("group.remove", { name: nameOf(id) })} onClick={() => toggle(id)} /></li>}</For>
                </ul>
            </Show>
            <Field label={t("group.find")} value={query()} onInput={setQuery} placeholder="@alice:…" />
            <ul class="person-list">
                <For each={candidates()}>
                    {(id) => (
                        <li>
                            <label class="person">
                                <input type="checkbox" checked={props.chosen.includes(id)} onChange={() => toggle(id)} />
                                <Avatar id={id} name={nameOf(id)} url={client.getUser(id)?.avatarUrl} size="small" />
                                <span class="hit-text"><bdi>{nameOf(id)}</bdi><span class="quiet small">{shortUser(id)}</span></span>
                            </label>
                        </li>
                    )}
                </For>
            </ul>
        </fieldset>
    );
}
