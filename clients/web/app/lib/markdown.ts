/** What a person types, as Matrix' `formatted_body`. */
import { Marked } from "marked";

const marked = new Marked({
    gfm: true,
    breaks: true,
    renderer: {
        // What looks like HTML was typed as text.
        html: ({ text }) => escapeHtml(text),
        image: ({ text, href }) => `<a href="${escapeHtml(href)}">${escapeHtml(text || href)}</a>`,
    },
});

export function escapeHtml(text: string): string {
    return text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);
}

/** The formatted body of a text; null where it would say no more than the text itself. */
export function format(text: string): string | null {
    const html = (marked.parse(text, { async: false }) as string).trim();
    const plain = /^<p>([\s\S]*)<\/p>$/.exec(html);
    const inner = plain && !plain[1]!.includes("<p>") ? plain[1]! : html;
    return inner === escapeHtml(text).replace(/\n/g, "<br>") || inner === asIs(text) ? null : inner;
}

/** As marked writes a text without any marks: it escapes apostrophes, too. */
function asIs(text: string): string {
    return escapeHtml(text.trim()).replace(/'/g, "&#39;").replace(/\n/g, "<br>");
}
