/** Names of people and servers as a person can read them. */

/** `@alice:kx3v…` → `alice`. */
export function localpart(userId: string): string {
    return /^@([^:]*):/.exec(userId)?.[1] ?? userId;
}

/** `@alice:kx3v…` → `kx3v…`. */
export function serverOf(userId: string): string {
    return userId.slice(userId.indexOf(":") + 1);
}

/** A server's name, the key in it cut to what an eye can compare: `kx3vab…q7ei`. */
export function shortServer(name: string): string {
    return name.replace(/^([a-z2-7]{6})[a-z2-7]{42}([a-z2-7]{4})(?=$|\.)/, "$1…$2");
}

export function shortUser(userId: string): string {
    return `@${localpart(userId)}:${shortServer(serverOf(userId))}`;
}

/** The localpart that a person's name suggests. Empty if nothing in it can stand in one. */
export function slug(name: string): string {
    const spelled = name.toLowerCase().replace(/ß/g, "ss").replace(/[äæ]/g, "ae").replace(/[öø]/g, "oe").replace(/ü/g, "ue").replace(/đ/g, "d").replace(/ł/g, "l");
    const plain = spelled.normalize("NFD").replace(/[\u0300-\u036f]/g, "");
    return plain.replace(/[^a-z0-9._=-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40);
}

/** One or two letters that stand for a name. */
export function initials(name: string): string {
    const words = name.replace(/^[@#!]/, "").split(/[\s._-]+/).filter((word) => /[\p{L}\p{N}]/u.test(word));
    const letters = words.slice(0, 2).map((word) => [...word.replace(/^[^\p{L}\p{N}]+/u, "")][0] ?? "");
    return letters.join("").toUpperCase() || "·";
}

/** Which of `count` colours stands for an id, always the same. */
export function colourOf(id: string, count: number): number {
    let hash = 7;
    for (let i = 0; i < id.length; i += 1) hash = (hash * 31 + id.charCodeAt(i)) >>> 0;
    return hash % count;
}

/** A name that strangers chose, without control characters, tricks of direction and endless length. */
export function safeName(name: string, max = 100): string {
    const plain = name.replace(/[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, "").replace(/\s+/g, " ").trim();
    return plain.length > max ? `${plain.slice(0, max)}…` : plain;
}
