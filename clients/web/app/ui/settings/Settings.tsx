/** The settings, one section at a time on narrow screens. */
import { For, Match, Show, Switch } from "solid-js";
import { t } from "../../i18n/index.ts";
import { path, route } from "../../lib/router.ts";
import { useApp } from "../../model/app.ts";
import { Icon, type IconName } from "../icons.tsx";
import { Page } from "../Page.tsx";
import { AppearanceSection, BlockedSection, NotificationSection, StorageSection } from "./Sections.tsx";
import { DevicesSection } from "./Devices.tsx";
import { NodeSection } from "./MyNode.tsx";
import { ProfileSection } from "./ProfileSection.tsx";

export function Settings() {
    const { extension } = useApp();
    const section = () => {
        const now = route();
        return now.at === "settings" ? now.section : undefined;
    };
    const items = (): [string, IconName, string][] => [
        ["profile", "person", t("settings.profile")],
        ["devices", "device", t("settings.devices")],
        ["appearance", "sun", t("settings.appearance")],
        ["notifications", "bell", t("settings.notifications")],
        ["blocked", "block", t("settings.blocked")],
        ["storage", "file", t("settings.storage")],
        ...(extension() ? [["node", "node", t("settings.node")] as [string, IconName, string]] : []),
    ];
    const title = () => items().find(([id]) => id === section())?.[2] ?? t("settings.title");
    return (
        <Page title={title()} {...(section() ? { back: "#/settings" } : {})}>
            <Show when={!section()}>
                <nav class="card menu-card" aria-label={t("settings.title")}>
                    <For each={items()}>
                        {([id, icon, text]) => <a class="row-button" href={path("settings", id)}><Icon name={icon} /> <span class="grow">{text}</span> <Icon name="right" /></a>}
                    </For>
                </nav>
                <p class="quiet small centred">kith · {t("settings.about")}</p>
            </Show>
            <Switch>
                <Match when={section() === "profile"}><ProfileSection /></Match>
                <Match when={section() === "devices"}><DevicesSection /></Match>
                <Match when={section() === "appearance"}><AppearanceSection /></Match>
                <Match when={section() === "notifications"}><NotificationSection /></Match>
                <Match when={section() === "blocked"}><BlockedSection /></Match>
                <Match when={section() === "storage"}><StorageSection /></Match>
                <Match when={section() === "node"}><NodeSection /></Match>
            </Switch>
        </Page>
    );
}
