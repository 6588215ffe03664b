/** Small parts that everything is made of: buttons, fields, dialogs, messages that come and go. */
import { createMemo, createSignal, createUniqueId, For, onCleanup, onMount, Show, type JSX } from "solid-js";
import { t } from "../i18n/index.ts";
import { Icon, type IconName } from "./icons.tsx";

export function IconButton(props: { icon: IconName; label: string; onClick?: (event: MouseEvent) => void; class?: string; pressed?: boolean; expanded?: boolean; disabled?: boolean }) {
    return (
        <button
            type="button"
            class={`icon-button ${props.class ?? ""}`}
            aria-label={props.label}
            title={props.label}
            aria-pressed={props.pressed}
            aria-expanded={props.expanded}
            disabled={props.disabled}
            onClick={(event) => props.onClick?.(event)}
        >
            <Icon name={props.icon} />
        </button>
    );
}

export function Field(props: { label: string; value: string; onInput: (value: string) => void; type?: string; hint?: JSX.Element; error?: string; autocomplete?: string; placeholder?: string; autofocus?: boolean; required?: boolean; maxLength?: number; multiline?: boolean; spellcheck?: boolean }) {
    const id = createUniqueId();
    const shared = () => ({
        id,
        value: props.value,
        placeholder: props.placeholder ?? "",
        required: props.required ?? false,
        "aria-invalid": Boolean(props.error),
        "aria-describedby": props.hint || props.error ? `${id}-hint` : undefined,
        maxLength: props.maxLength ?? 500,
    });
    const [shown, setShown] = createSignal(false);
    return (
        <div class="field">
            <label for={id}>{props.label}</label>
            <Show
                when={props.multiline}
                fallback={
                    <span class="input-row">
                        <input
                            {...shared()}
                            type={props.type === "password" && shown() ? "text" : (props.type ?? "text")}
                            autocomplete={props.autocomplete ?? "off"}
                            autocapitalize="none"
                            spellcheck={props.spellcheck ?? false}
                            dir="auto"
                            ref={(input) => props.autofocus && onMount(() => input.focus())}
                            onInput={(event) => props.onInput(event.currentTarget.value)}
                        />
                        <Show when={props.type === "password"}>
                            <button type="button" class="quiet-button" aria-pressed={shown()} onClick={() => setShown(!shown())}>
                                {shown() ? t("common.hide") : t("common.show")}
                            </button>
                        </Show>
                    </span>
                }
            >
                <textarea {...shared()} rows={3} dir="auto" onInput={(event) => props.onInput(event.currentTarget.value)} />
            </Show>
            <Show when={props.error || props.hint}>
                <p class="hint" classList={{ error: Boolean(props.error) }} id={`${id}-hint`} role={props.error ? "alert" : undefined}>
                    {props.error || props.hint}
                </p>
            </Show>
        </div>
    );
}

/** Shows what was wished at once; what is, again, when that could not be done (`onChange` resolves to false). */
export function Switch(props: { label: string; hint?: string; checked: boolean; onChange: (on: boolean) => void | Promise<boolean>; disabled?: boolean }) {
    const id = createUniqueId();
    // Told once more what was before, it does not flip back.
    const checked = createMemo(() => props.checked);
    function change(event: { currentTarget: HTMLInputElement }): void {
        const input = event.currentTarget;
        void Promise.resolve(props.onChange(input.checked)).then((done) => {
            if (done === false) input.checked = checked();
        });
    }
    return (
        <div class="switch-row">
            <span class="switch-text">
                <label for={id}>{props.label}</label>
                <Show when={props.hint}>
                    <span class="hint" id={`${id}-hint`}>{props.hint}</span>
                </Show>
            </span>
            <input
                id={id}
                type="checkbox"
                role="switch"
                class="switch"
                checked={checked()}
                disabled={props.disabled}
                aria-describedby={props.hint ? `${id}-hint` : undefined}
                onChange={change}
            />
        </div>
    );
}

export function Choice<T extends string>(props: { label: string; value: T; options: [T, string][]; onChange: (value: T) => void }) {
    const name = createUniqueId();
    return (
        <fieldset class="choice">
            <legend>{props.label}</legend>
            <div class="choice-options">
                <For each={props.options}>
                    {([value, text]) => (
                        <label classList={{ chosen: props.value === value }}>
                            <input type="radio" name={name} value={value} checked={props.value === value} onChange={() => props.onChange(value)} />
                            {text}
                        </label>
                    )}
                </For>
            </div>
        </fieldset>
    );
}

/** A window over the rest, which keeps the keyboard's focus and closes with Escape. */
export function Dialog(props: { title: string; onClose: () => void; children: JSX.Element; class?: string }) {
    const id = createUniqueId();
    let dialog!: HTMLDialogElement;
    onMount(() => dialog.showModal());
    onCleanup(() => dialog.close());
    return (
        <dialog
            ref={dialog}
            class={`dialog ${props.class ?? ""}`}
            aria-labelledby={id}
            onCancel={(event) => {
                event.preventDefault();
                props.onClose();
            }}
            onMouseDown={(event) => event.target === dialog && props.onClose()}
        >
            <div class="dialog-inside">
                <header>
                    <h2 id={id}>{props.title}</h2>
                    <IconButton icon="close" label={t("common.close")} onClick={() => props.onClose()} />
                </header>
                {props.children}
            </div>
        </dialog>
    );
}

export function Confirm(props: { title: string; text: string; action: string; danger?: boolean; onConfirm: () => Promise<void> | void; onClose: () => void }) {
    const [busy, setBusy] = createSignal(false);
    return (
        <Dialog title={props.title} onClose={props.onClose}>
            <p>{props.text}</p>
            <div class="actions">
                <button type="button" class="button" onClick={() => props.onClose()}>{t("common.cancel")}</button>
                <button
                    type="button"
                    class="button"
                    classList={{ danger: props.danger, primary: !props.danger }}
                    disabled={busy()}
                    onClick={() => {
                        setBusy(true);
                        void Promise.resolve(props.onConfirm()).then(() => props.onClose(), (error: unknown) => {
                            say(errorText(error), "error");
                            setBusy(false);
                        });
                    }}
                >
                    {props.action}
                </button>
            </div>
        </Dialog>
    );
}

/** What went wrong, in words. */
export function errorText(error: unknown): string {
    const { errcode, data, name } = error as { errcode?: string; data?: { error?: string }; name?: string };
    if (name === "ConnectionError") return t("error.connection");
    if (errcode === "M_FORBIDDEN") return data?.error ? t("error.forbiddenWith", { reason: data.error.slice(0, 200) }) : t("error.forbidden");
    if (errcode === "M_LIMIT_EXCEEDED") return t("error.limited");
    if (errcode === "M_TOO_LARGE") return t("error.tooLarge");
    return data?.error?.slice(0, 300) ?? (error instanceof Error ? error.message.slice(0, 300) : t("error.unknown"));
}

interface Said {
    id: number;
    text: string;
    kind: "info" | "error";
}

const [said, setSaid] = createSignal<Said[]>([]);
let numbers = 0;

/** Shows a short message for a while. */
export function say(text: string, kind: Said["kind"] = "info"): void {
    const one = { id: (numbers += 1), text, kind };
    setSaid((all) => [...all.slice(-2), one]);
    setTimeout(() => setSaid((all) => all.filter(({ id }) => id !== one.id)), kind === "error" ? 8000 : 3500);
}

export function Toasts() {
    return (
        <div class="toasts" role="status" aria-live="polite">
            <For each={said()}>{(one) => <div class={`toast ${one.kind}`}>{one.text}</div>}</For>
        </div>
    );
}

export async function copy(text: string): Promise<void> {
    try {
        await navigator.clipboard.writeText(text);
        say(t("common.copied"));
    } catch {
        say(t("common.copyFailed"), "error");
    }
}

export function Spinner(props: { label?: string }) {
    return <span class="spinner" role="img" aria-label={props.label ?? t("common.loading")} />;
}

/** Does something that may fail, and says so if it does. Resolves to whether it was done. */
export function attempt(work: Promise<unknown>): Promise<boolean> {
    return work.then(
        () => true,
        (error: unknown) => {
            say(errorText(error), "error");
            return false;
        },
    );
}
