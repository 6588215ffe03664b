/** Light, dark, or as the system has it. */
import { createSignal } from "solid-js";
import { language } from "../i18n/index.ts";

export type Appearance = "system" | "light" | "dark";

const [appearance, setSignal] = createSignal<Appearance>((localStorage.getItem("kith.appearance") as Appearance | null) ?? "system");
export { appearance };

export function setAppearance(to: Appearance): void {
    localStorage.setItem("kith.appearance", to);
    setSignal(to);
    applyAppearance();
}

export function applyAppearance(): void {
    const root = document.documentElement;
    if (appearance() === "system") root.removeAttribute("data-theme");
    else root.dataset.theme = appearance();
    root.lang = language();
}
