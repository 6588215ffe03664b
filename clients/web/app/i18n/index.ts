/** The language of the client. Each has one file of texts; `{name}` in a text stands for what is put in. */
import { createSignal } from "solid-js";
import { de } from "./de.ts";
import { en, type Texts } from "./en.ts";

export const LANGUAGES = { en: "English", de: "Deutsch" } as const;
export type Language = keyof typeof LANGUAGES;

const ALL: Record<Language, Texts> = { en, de };

function preferred(): Language {
    const chosen = globalThis.localStorage?.getItem("kith.language");
    if (chosen === "en" || chosen === "de") return chosen;
    return globalThis.navigator?.language?.startsWith("de") ? "de" : "en";
}

const [language, setSignal] = createSignal<Language>(preferred());
export { language };

/** How dates and numbers are written: as the browser's region does, where it speaks the language of the client. */
export function locale(): string {
    return navigator.languages.find((each) => each.split("-")[0] === language()) ?? language();
}

export function setLanguage(to: Language): void {
    localStorage.setItem("kith.language", to);
    document.documentElement.lang = to;
    setSignal(to);
}

/** The text for a key, in the language of the moment. */
export function t(key: keyof Texts, values: Record<string, string | number> = {}): string {
    return fill(ALL[language()][key], values);
}

/** The text for a number of things: `key_one` or `key_other`. */
export function tn(key: CountedKey, count: number, values: Record<string, string | number> = {}): string {
    const form = new Intl.PluralRules(language()).select(count) === "one" ? "one" : "other";
    return t(`${key}_${form}` as keyof Texts, { count, ...values });
}

type CountedKey = { [K in keyof Texts]: K extends `${infer Stem}_one` ? Stem : never }[keyof Texts];

export function fill(text: string, values: Record<string, string | number>): string {
    return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));
}
