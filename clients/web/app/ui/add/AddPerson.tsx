/** Adding somebody: one who is near, by a code that is shown or scanned, or by a link. */
import { createMemo, createResource, createSignal, For, Show } from "solid-js";
import { t } from "../../i18n/index.ts";
import { readMatrixLink } from "../../lib/links.ts";
import { shortServer, shortUser } from "../../lib/names.ts";
import { go, path, roomPath } from "../../lib/router.ts";
import { useApp } from "../../model/app.ts";
import { Avatar } from "../Avatar.tsx";
import { Icon } from "../icons.tsx";
import { useNear } from "../Near.tsx";
import { copy, errorText, Field } from "../parts.tsx";
import { Page } from "../Page.tsx";
import { IntroductionSwitch } from "../settings/IntroductionSwitch.tsx";
import { QrCode } from "./QrCode.tsx";
import { Scanner } from "./Scanner.tsx";

export function AddPerson() {
    const { client, extension, people } = useApp();
    const near = useNear();
    const [text, setText] = createSignal("");
    const [problem, setProblem] = createSignal("");
    const [scanning, setScanning] = createSignal(false);
    const [busy, setBusy] = createSignal(false);
    const plain = () => `matrix:u/${client.getSafeUserId().slice(1)}?action=chat`;
    const [link] = createResource(
        () => ({ found: extension() }),
        async ({ found }) => (found ? found.contact().catch(plain) : plain()),
    );
    const unnamed = createMemo(() => people.neighbours().filter(({ nearby, users }) => nearby && !users.length));

    async function follow(given: string): Promise<void> {
        setScanning(false);
        setProblem("");
        const read = readMatrixLink(given);
        if (!read) return void setProblem(t("add.noLink"));
        if (read.kind === "room") return go(roomPath(read.id));
        if (read.id === client.getUserId()) return void setProblem(t("add.self"));
        setBusy(true);
        try {
            // The node learns from the link where the other one is.
            go(path("user", extension() ? await extension()!.addContact(given.trim()) : read.id));
        } catch (error) {
            setProblem(errorText(error));
        } finally {
            setBusy(false);
        }
    }

    return (
        <Page title={t("add.person")}>
            <section class="card">
                <h2><Icon name="near" /> {t("near.title")}</h2>
                <Show when={near().length} fallback={<p class="quiet">{extension() ? t("near.nobody") : t("near.unknown")}</p>}>
                    <ul class="person-list">
                        <For each={near()}>
                            {(person) => (
                                <li>
                                    <a class="person" href={path("user", person.user_id)}>
                                        <Avatar id={person.user_id} name={person.name} url={person.avatar_url} near />
                                        <span class="hit-text"><bdi>{person.name}</bdi><span class="quiet small">{shortUser(person.user_id)}</span></span>
                                        <Icon name="right" />
                                    </a>
                                </li>
                            )}
                        </For>
                    </ul>
                </Show>
                <Show when={unnamed().length}>
                    <p class="quiet small">{t("near.unnamed", { names: unnamed().slice(0, 5).map((each) => shortServer(each.server_name)).join(", ") })}</p>
                </Show>
                <Show when={extension()}><IntroductionSwitch /></Show>
            </section>
            <div class="two">
                <section class="card">
                    <h2><Icon name="qr" /> {t("add.mine")}</h2>
                    <Show when={link()}>
                        {(mine) => (
                            <>
                                <QrCode text={mine()} label={t("add.mine")} />
                                <p class="quiet small">{t("add.mineHint")}</p>
                                <button type="button" class="button wide" onClick={() => void copy(mine())}><Icon name="copy" /> {t("add.copyLink")}</button>
                            </>
                        )}
                    </Show>
                </section>
                <section class="card">
                    <h2><Icon name="camera" /> {t("add.theirs")}</h2>
                    <Show when={scanning()} fallback={<button type="button" class="button wide" onClick={() => setScanning(true)}><Icon name="camera" /> {t("add.scan")}</button>}>
                        <Scanner onText={(read) => void follow(read)} />
                    </Show>
                    <div class="or"><span>{t("common.or")}</span></div>
                    <form onSubmit={(event) => {
                        event.preventDefault();
                        void follow(text());
                    }}>
                        <Field label={t("add.paste")} value={text()} onInput={setText} placeholder="@alice:…" maxLength={2000} error={problem() || undefined} hint={t("add.pasteHint")} />
                        <button type="submit" class="button primary wide" disabled={busy() || !text().trim()}>{t("add.open")}</button>
                    </form>
                </section>
            </div>
            <section class="card row-card">
                <span><Icon name="people" /> {t("add.groupHint")}</span>
                <a class="button" href="#/group">{t("add.group")}</a>
            </section>
            <section class="card row-card">
                <span><Icon name="globe" /> {t("public.hint")}</span>
                <a class="button" href="#/public">{t("public.title")}</a>
            </section>
        </Page>
    );
}
