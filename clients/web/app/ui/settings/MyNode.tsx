/** One's own node: its address, who it reaches, what waits to be sent, what it holds. */
import { createResource, For, onCleanup, Show } from "solid-js";
import { locale, t, tn } from "../../i18n/index.ts";
import { ago, bytes, duration } from "../../lib/dates.ts";
import { shortServer } from "../../lib/names.ts";
import { useApp } from "../../model/app.ts";
import { Icon } from "../icons.tsx";
import { copy, errorText, Spinner } from "../parts.tsx";

export function NodeSection() {
    const { extension, people } = useApp();
    const [status, { refetch }] = createResource(() => extension(), (found) => found.node());
    const timer = setInterval(() => void refetch(), 5000);
    onCleanup(() => clearInterval(timer));
    return (
        <Show when={status.latest} fallback={<Show when={status.error} fallback={<Spinner />}><p class="problem">{errorText(status.error)}</p></Show>}>
            {(node) => (
                <>
                    <section class="card">
                        <h2>{t("node.about")}</h2>
                        <dl class="facts">
                            <dt>{t("node.name")}</dt>
                            <dd><button type="button" class="address-button" title={t("common.copy")} onClick={() => void copy(node().server_name)}>{node().server_name}</button></dd>
                            <dt>{t("node.version")}</dt>
                            <dd>{node().version}</dd>
                            <dt>{t("node.uptime")}</dt>
                            <dd>{ago(Date.now() - node().uptime_ms, locale()) || duration(node().uptime_ms)}</dd>
                            <dt>{t("node.storage")}</dt>
                            <dd>{t("node.storageText", { database: bytes(node().storage.database_bytes, locale()), media: bytes(node().storage.media_bytes, locale()) })}
                                <Show when={node().storage.free_bytes !== undefined}><br /><span class="quiet">{t("node.free", { free: bytes(node().storage.free_bytes!, locale()) })}</span></Show>
                            </dd>
                        </dl>
                        <details class="more">
                            <summary>{t("node.addresses")}</summary>
                            <ul class="address-list"><For each={node().addresses.slice(0, 40)}>{(each) => <li class="address">{each}</li>}</For></ul>
                        </details>
                    </section>
                    <section class="card">
                        <h2>{t("node.peers")}</h2>
                        <p>{t("node.peersText", { connected: node().peers.connected, nearby: node().peers.nearby })}</p>
                        <ul class="device-list">
                            <For each={people.neighbours().slice(0, 50)}>
                                {(each) => (
                                    <li>
                                        <span class="device-icon" classList={{ good: each.connected }}><Icon name={each.nearby ? "near" : "globe"} /></span>
                                        <span class="hit-text"><span>{shortServer(each.server_name)}</span>
                                            <span class="quiet small">{each.nearby ? t("node.near") : each.connected ? t("node.connected") : each.last_seen_ms ? t("devices.seen", { when: ago(each.last_seen_ms, locale()) }) : t("node.away")}</span>
                                        </span>
                                    </li>
                                )}
                            </For>
                        </ul>
                    </section>
                    <section class="card">
                        <h2>{t("node.queues")}</h2>
                        <ul class="device-list">
                            <For each={node().queues} fallback={<li class="quiet">{t("node.nothingWaits")}</li>}>
                                {(queue) => (
                                    <li>
                                        <span class="device-icon"><Icon name="hourglass" /></span>
                                        <span class="hit-text"><span>{shortServer(queue.server_name)}</span>
                                            <span class="quiet small">
                                                {tn("node.rooms", queue.rooms)} · {tn("node.messages", queue.messages)}
                                                {queue.away_since_ms ? ` · ${t("node.awaySince", { when: ago(queue.away_since_ms, locale()) })}` : ""}
                                                {queue.dropped ? ` · ${t("node.dropped", { count: queue.dropped })}` : ""}
                                            </span>
                                        </span>
                                    </li>
                                )}
                            </For>
                        </ul>
                    </section>
                </>
            )}
        </Show>
    );
}
