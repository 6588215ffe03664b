/** Whether people near may find one: account data that the node reads. */
import { createSignal, onCleanup } from "solid-js";
import { ClientEvent, type MatrixEvent } from "matrix-js-sdk";
import { t } from "../../i18n/index.ts";
import { useApp } from "../../model/app.ts";
import { attempt, Switch } from "../parts.tsx";

export const INTRODUCTION = "org.kith.introduction";

export function IntroductionSwitch() {
    const { client } = useApp();
    const read = () => client.getAccountData(INTRODUCTION as never)?.getContent<{ nearby?: boolean }>().nearby === true;
    const [nearby, setNearby] = createSignal(read());
    const follow = (event: MatrixEvent) => event.getType() === INTRODUCTION && setNearby(read());
    client.on(ClientEvent.AccountData, follow);
    onCleanup(() => client.off(ClientEvent.AccountData, follow));
    return (
        <Switch
            label={t("introduction.label")}
            hint={t("introduction.hint")}
            checked={nearby()}
            onChange={(on) => attempt(client.setAccountData(INTRODUCTION as never, { nearby: on } as never))}
        />
    );
}
