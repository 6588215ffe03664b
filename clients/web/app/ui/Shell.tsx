/** The frame of the client: the list at the side, what is open in the middle. On narrow screens one of them. */
import { createMemo, Match, Show, Switch } from "solid-js";
import { route } from "../lib/router.ts";
import { t } from "../i18n/index.ts";
import { useApp } from "../model/app.ts";
import { AddPerson } from "./add/AddPerson.tsx";
import { NewGroup } from "./add/NewGroup.tsx";
import { OpenUser } from "./add/OpenUser.tsx";
import { PublicRooms } from "./add/PublicRooms.tsx";
import { Banners } from "./Banners.tsx";
import { Empty } from "./Empty.tsx";
import { RoomView } from "./room/RoomView.tsx";
import { Settings } from "./settings/Settings.tsx";
import { Sidebar } from "./Sidebar.tsx";
import { VerificationDialog } from "./Verification.tsx";

export function Shell() {
    const { verifications } = useApp();
    const atRoom = createMemo(() => {
        const now = route();
        return now.at === "room" ? now.room_id : null;
    });
    const atUser = createMemo(() => {
        const now = route();
        return now.at === "user" ? now.user_id : null;
    });
    // A file that is dropped beside a conversation would else take the place of the whole page.
    const refuse = (event: DragEvent) => {
        if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        event.dataTransfer.dropEffect = "none";
    };
    return (
        <div class="shell" classList={{ "shows-list": route().at === "home" }} onDragOver={refuse} onDrop={refuse}>
            <a class="skip" href="#main" onClick={(event) => {
                event.preventDefault();
                document.getElementById("main")?.focus();
            }}>{t("common.skip")}</a>
            <Sidebar />
            <main id="main" tabindex="-1" class="main">
                <Banners />
                <Switch fallback={<Empty />}>
                    <Match when={atRoom()} keyed>{(room_id) => <RoomView room_id={room_id} />}</Match>
                    <Match when={route().at === "people"}><AddPerson /></Match>
                    <Match when={route().at === "group"}><NewGroup /></Match>
                    <Match when={route().at === "public"}><PublicRooms /></Match>
                    <Match when={atUser()} keyed>{(user_id) => <OpenUser user_id={user_id} />}</Match>
                    <Match when={route().at === "settings"}><Settings /></Match>
                </Switch>
            </main>
            <Show when={verifications.current()}>{(current) => <VerificationDialog current={current()} />}</Show>
        </div>
    );
}
