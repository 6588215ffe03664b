/** The rows of a conversation, of which only those in sight are drawn. Stays at the newest unless one has scrolled away. */
import { createEffect, createSignal, Match, on, onMount, Show, Switch } from "solid-js";
import { Virtualizer, type VirtualizerHandle } from "virtua/solid";
import { locale, t } from "../../i18n/index.ts";
import { dayName } from "../../lib/dates.ts";
import type { Row } from "../../model/rows.ts";
import { Icon } from "../icons.tsx";
import { Spinner } from "../parts.tsx";
import { Message } from "./Message.tsx";
import { Notice } from "./Notice.tsx";
import { useRoom } from "./context.ts";

/** Within so many pixels of the end one is at the end. */
const AT_END = 80;
const LOAD_WITHIN = 800;

export function TimelineList(props: { label: string; target: { id: string | null; tick: number }; onLatest: () => void }) {
    const { timeline } = useRoom();
    const [handle, setHandle] = createSignal<VirtualizerHandle>();
    const [atEnd, setAtEnd] = createSignal(true);
    const [marked, setMarked] = createSignal<string | null>(null);
    const [fresh, setFresh] = createSignal(0);
    let scroller!: HTMLDivElement;
    /** Whether the list follows the newest: until one scrolls up, whatever rows turn out to be higher than they were thought. */
    let stuck = true;
    let top = 0;

    function toEnd(): void {
        stuck = true;
        scroller.scrollTop = scroller.scrollHeight;
        requestAnimationFrame(() => (scroller.scrollTop = scroller.scrollHeight));
    }

    function onScroll(): void {
        const rest = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
        const up = scroller.scrollTop < top;
        top = scroller.scrollTop;
        if (rest < AT_END) stuck = timeline.live();
        else if (up || !timeline.live()) stuck = false;
        else if (stuck) toEnd();
        setAtEnd(stuck);
        if (stuck) setFresh(0);
        fill();
    }

    function fill(): void {
        if (timeline.loading() || timeline.failed()) return;
        if (scroller.scrollTop < LOAD_WITHIN && !timeline.complete()) void timeline.older();
        else if (scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < LOAD_WITHIN && !timeline.live()) void timeline.newer();
    }

    let count = 0;
    let last = "";
    createEffect(() => {
        const rows = timeline.rows();
        const newest = rows.at(-1)?.id ?? "";
        const grew = rows.length > count && newest !== last;
        const latest = rows.at(-1);
        // Written here: it may have come back from the node before the list looked.
        const own = newest !== last && latest?.kind === "message" && Boolean(latest.event.status ?? latest.event.getTxnId());
        count = rows.length;
        last = newest;
        if (stuck || own) queueMicrotask(toEnd);
        else if (grew && timeline.live()) setFresh((n) => n + 1);
    });
    createEffect(
        on(
            () => props.target,
            ({ id, tick }) => {
                if (!tick) return;
                if (!id) return toEnd();
                const index = timeline.rows().findIndex((row) => "event" in row && row.event.getId() === id);
                if (index < 0) return toEnd();
                stuck = false;
                setMarked(id);
                setTimeout(() => setMarked(null), 2500);
                const scroll = () => handle()?.scrollToIndex(index, { align: "center" });
                scroll();
                setTimeout(scroll, 80);
            },
        ),
    );
    createEffect(on(timeline.loading, (loading) => !loading && requestAnimationFrame(fill)));
    onMount(() => {
        const observer = new ResizeObserver(() => stuck && toEnd());
        observer.observe(scroller);
    });

    return (
        <div class="timeline-frame">
            <div class="timeline" data-rows={timeline.rows().length} ref={scroller} onScroll={onScroll} tabindex="0" role="log" aria-label={props.label} aria-live="polite">
                <div class="timeline-space" />
                <Show when={timeline.failed()}>
                    <p class="timeline-note">
                        {t("room.historyFailed")} <button type="button" class="link-button" onClick={() => void timeline.older()}>{t("root.again")}</button>
                    </p>
                </Show>
                <Virtualizer
                    ref={setHandle}
                    data={timeline.rows()}
                    scrollRef={scroller}
                    shift={timeline.grewAtStart()}
                    bufferSize={600}
                    onResize={() => stuck && toEnd()}
                >
                    {(row: Row) => <RowView row={row} marked={"event" in row && marked() === row.event.getId()} />}
                </Virtualizer>
                <div class="timeline-end" />
            </div>
            <Show when={timeline.loading()}>
                <div class="timeline-loading"><Spinner /></div>
            </Show>
            <Show when={!atEnd()}>
                <button type="button" class="to-latest" aria-label={t("room.latest")} title={t("room.latest")} onClick={() => (timeline.live() ? toEnd() : props.onLatest())}>
                    <Icon name="down" />
                    <Show when={fresh()}><span class="badge">{fresh()}</span></Show>
                </button>
            </Show>
        </div>
    );
}

function RowView(props: { row: Row; marked: boolean }) {
    const as = <K extends Row["kind"]>(kind: K) => (props.row.kind === kind ? (props.row as Extract<Row, { kind: K }>) : null);
    return (
        <Switch>
            <Match when={as("message")}>{(row) => <Message event={row().event} first={row().first} last={row().last} marked={props.marked} />}</Match>
            <Match when={as("notice")}>{(row) => <Notice event={row().event} />}</Match>
            <Match when={as("day")}>{(row) => <div class="day"><span>{dayName(row().ts, locale())}</span></div>}</Match>
            <Match when={as("unread")}><div class="unread-line"><span>{t("room.unread")}</span></div></Match>
        </Switch>
    );
}
