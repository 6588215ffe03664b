/** People near (found on the local network) who want to be found, and nodes near without a name. */
import { For, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { keyed } from "../lib/keyed.ts";
import { localpart, safeName } from "../lib/names.ts";
import { path } from "../lib/router.ts";
import { useApp } from "../model/app.ts";
import { Avatar } from "./Avatar.tsx";
import { Icon } from "./icons.tsx";

export function useNear() {
    const { people, client } = useApp();
    return keyed("user_id", () =>
        people
            .neighbours()
            .filter(({ nearby }) => nearby)
            .flatMap(({ users }) => users)
            .filter(({ user_id }) => user_id !== client.getUserId() && !client.getIgnoredUsers().includes(user_id))
            .map((user) => ({ ...user, name: safeName(user.displayname ?? localpart(user.user_id), 60) || localpart(user.user_id) })),
    );
}

export function Near() {
    const near = useNear();
    return (
        <Show when={near().length}>
            <section class="near">
                <h2><Icon name="near" /> {t("near.title")}</h2>
                <ul>
                    <For each={near().slice(0, 20)}>
                        {(person) => (
                            <li>
                                <a href={path("user", person.user_id)} title={person.user_id}>
                                    <Avatar id={person.user_id} name={person.name} url={person.avatar_url} near />
                                    <span><bdi>{person.name}</bdi></span>
                                </a>
                            </li>
                        )}
                    </For>
                </ul>
            </section>
        </Show>
    );
}
