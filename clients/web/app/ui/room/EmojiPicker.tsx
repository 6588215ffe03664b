/** A small choice of emoji; the system's own has the rest. */
import { For, onCleanup, onMount } from "solid-js";
import { t } from "../../i18n/index.ts";

const EMOJI = [
    ..."😀😃😄😁😆😅😂🙂🙃😉😊😇🥰😍😘😋😜🤪🤗🤭🤔🤨😐😏🙄😬😌😔😴🤒🤕🤢🥵🥶🥴🤯🤠🥳😎🤓🧐😕😟🙁😮😲🥺😢😭😱😤😡😈💀💩👻🤖",
    ..."👋🤚✋🖖👌🤏🤞🤟🤘🤙👈👉👆👇👍👎✊👊👏🙌🙏💪🫶", "❤️", ..."🧡💛💚💙💜🖤🤍💔💯💥💫", "⭐", ..."🔥🎉🎊🎁🎈🏆", "✅", "❌", "❓", "❗",
    ..."🐶🐱🦊🐻🐼🐸🦉🐝🦋🌱🌲🌻🌙🌈🌊🍎🍓🍉🥑🍞🧀🍕🍝🍰🍪", "☕", ..."🍵🍺🍷🚲🚗🚆", "✈️", ..."⛵🏕🏠🏡📷📱💻🔋🔒🔑📌📎📅", "⏰",
];

export function EmojiPicker(props: { onChoose: (emoji: string) => void; onClose: () => void }) {
    let place!: HTMLDivElement;
    const key = (event: KeyboardEvent) => event.key === "Escape" && props.onClose();
    onMount(() => {
        document.addEventListener("keydown", key);
        place.querySelector("button")?.focus();
    });
    onCleanup(() => document.removeEventListener("keydown", key));
    return (
        <div class="emoji-picker" role="group" aria-label={t("composer.emoji")} ref={place}>
            <For each={EMOJI}>{(emoji) => <button type="button" onClick={() => props.onChoose(emoji)}>{emoji}</button>}</For>
        </div>
    );
}
