/** What stands in the middle while no conversation is open. */
import { Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { useApp } from "../model/app.ts";
import { Icon } from "./icons.tsx";
import { Logo } from "./Logo.tsx";

export function Empty() {
    const { conversations } = useApp();
    return (
        <section class="empty">
            <Logo />
            <h2 class="big">{conversations.list.length ? t("empty.title") : t("empty.first")}</h2>
            <p>{conversations.list.length ? t("empty.text") : t("empty.firstText")}</p>
            <Show when={!conversations.list.length}>
                <div class="actions centred">
                    <a class="button primary" href="#/people"><Icon name="person" /> {t("add.person")}</a>
                    <a class="button" href="#/group"><Icon name="people" /> {t("add.group")}</a>
                </div>
            </Show>
            <p class="quiet small"><Icon name="lock" /> {t("empty.encrypted")}</p>
        </section>
    );
}
