/** How far a message of one's own has got: as a sign in its bubble, or in words below the last one. */
import { createMemo, Match, Show, Switch } from "solid-js";
import type { MatrixEvent } from "matrix-js-sdk";
import { locale, t, tn } from "../../i18n/index.ts";
import { ago } from "../../lib/dates.ts";
import { safeName, serverOf, shortServer } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import type { State } from "../../model/delivery.ts";
import { Icon, type IconName } from "../icons.tsx";
import { attempt } from "../parts.tsx";
import { takeBack } from "../../model/send.ts";
import { useRoom } from "./context.ts";

const SIGNS: Record<State["is"], IconName> = { sending: "clock", failed: "alert", stored: "check", waiting: "hourglass", delivered: "checks", read: "checks" };

export function DeliveryMark(props: { event: MatrixEvent; words?: boolean }) {
    const { delivery, client, online } = useApp();
    const { room, changes } = useRoom();
    const state = createMemo(() => (changes(), delivery.of(props.event, room)), undefined, { equals: (a, b) => JSON.stringify(a) === JSON.stringify(b) });
    const as = <K extends State["is"]>(is: K) => (state().is === is ? (state() as Extract<State, { is: K }>) : null);

    /** Whose device a server is, where that is one person's. */
    function owner(server: string): string {
        const users = room.getJoinedMembers().filter(({ userId }) => serverOf(userId) === server);
        return users.length === 1 ? safeName(users[0]!.name, 40) : shortServer(server);
    }
    const words = () => {
        const now = state();
        if (now.is === "waiting") {
            const [first] = now.servers;
            if (!first || now.count > 1) return tn("delivery.waitingMany", now.count, { total: now.count + now.delivered });
            return first.away_since_ms ? t("delivery.waitingSince", { name: owner(first.server_name), when: ago(first.away_since_ms, locale()) }) : t("delivery.waiting", { name: owner(first.server_name) });
        }
        if (now.is === "read") return room.getJoinedMemberCount() > 2 ? tn("delivery.readBy", now.by) : t("delivery.read");
        return t(`delivery.${now.is}`);
    };
    return (
        <Show
            when={props.words}
            fallback={
                <span class={`mark ${state().is}`} title={words()}>
                    <Icon name={SIGNS[state().is]} />
                    <span class="visually-hidden">{words()}</span>
                </span>
            }
        >
            <Switch>
                <Match when={as("waiting")}><p class="delivery-words"><Icon name="hourglass" /> <bdi>{words()}</bdi></p></Match>
                <Match when={as("failed")}>
                    <p class="delivery-words failed">
                        <Show when={online()} fallback={<><Icon name="clock" /> {t("delivery.whenOnline")}</>}>
                            <Icon name="alert" /> {t("delivery.failed")}{" "}
                            <button type="button" class="link-button" onClick={() => attempt(client.resendEvent(props.event, room))}>{t("delivery.again")}</button>
                            <button type="button" class="link-button" onClick={() => attempt(takeBack(client, room, props.event))}>{t("message.delete")}</button>
                        </Show>
                    </p>
                </Match>
            </Switch>
        </Show>
    );
}
