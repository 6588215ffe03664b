/** Plain texts from others: cut where they are endless, with links found in them. */

export const MAX_SHOWN = 2500;
const MAX_LINES = 40;

/** The part of a body that is shown at first, and whether there is more. */
export function cut(body: string): { text: string; more: boolean } {
    let text = body.length > MAX_SHOWN ? body.slice(0, MAX_SHOWN) : body;
    const lines = text.split("\n");
    if (lines.length > MAX_LINES) text = lines.slice(0, MAX_LINES).join("\n");
    // No half of a surrogate pair at the end, and no endless stack of combining marks.
    text = text.replace(/[\ud800-\udbff]$/, "").replace(/(\p{M}{8})\p{M}+/gu, "$1");
    return { text, more: text.length < body.length };
}

export type Piece = { text: string; href?: string };

/** A text in pieces, some of which are links. */
export function linked(text: string): Piece[] {
    const pieces: Piece[] = [];
    let last = 0;
    for (const match of text.matchAll(/\b(?:https?:\/\/|mailto:|matrix:(?:u|r|roomid)\/)[^\s<>"'\u202a-\u202e\u2066-\u2069]{1,2000}/g)) {
        const href = match[0].replace(/[.,;:!?)\]}»”]+$/, "");
        if (match.index > last) pieces.push({ text: text.slice(last, match.index) });
        pieces.push({ text: href, href });
        last = match.index + href.length;
    }
    if (last < text.length) pieces.push({ text: text.slice(last) });
    return pieces;
}

/** A reply's body without the quoted lines that older clients put before it. */
export function withoutFallback(body: string): string {
    if (!body.startsWith("> ")) return body;
    const lines = body.split("\n");
    let i = 0;
    while (i < lines.length && lines[i]!.startsWith(">")) i += 1;
    if (lines[i] === "") i += 1;
    return lines.slice(i).join("\n");
}

/** Whether a text is a few emoji and nothing else, so that they can be large. */
export function onlyEmoji(text: string): boolean {
    const plain = text.trim();
    return plain.length <= 24 && /^(?:\p{Extended_Pictographic}|\p{Regional_Indicator}|\p{Emoji_Modifier}|[\ufe0f\u200d\s])+$/u.test(plain) && !/^\s*$/.test(plain);
}
