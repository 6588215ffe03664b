/** Makes HTML from others safe to show: the tags of the specification (client-server API, "m.room.message msgtypes"), nothing else. */
import DOMPurify from "dompurify";

const TAGS = [
    "del", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "p", "a", "ul", "ol", "sup", "sub", "li", "b", "i", "u", "strong", "em", "s",
    "code", "hr", "br", "div", "table", "thead", "tbody", "tr", "th", "td", "caption", "pre", "span", "details", "summary",
];
const ATTRIBUTES = ["href", "start", "class", "data-mx-spoiler"];
const MAX_LENGTH = 64 * 1024;
const MAX_DEPTH = 60;

const purify = DOMPurify();

purify.addHook("uponSanitizeAttribute", (node, data) => {
    if (data.attrName === "class" && (node.nodeName !== "CODE" || !/^language-[\w+-]{1,30}$/.test(data.attrValue))) data.keepAttr = false;
    if (data.attrName === "href" && !/^(https?:|mailto:|matrix:|magnet:)/i.test(data.attrValue)) data.keepAttr = false;
});

purify.addHook("afterSanitizeAttributes", (node) => {
    if (node.nodeName === "A") {
        node.setAttribute("target", "_blank");
        node.setAttribute("rel", "noopener noreferrer nofollow");
    }
    if (node.hasAttribute("data-mx-spoiler")) {
        node.classList.add("spoiler");
        node.setAttribute("tabindex", "0");
        node.setAttribute("role", "button");
    }
});

/** The nodes to show of a message's `formatted_body`; null where the plain body had better be shown. */
export function sanitised(html: string): DocumentFragment | null {
    if (html.length > MAX_LENGTH) return null;
    const fragment = purify.sanitize(html.replace(/<mx-reply>[\s\S]*?<\/mx-reply>/gi, ""), {
        ALLOWED_TAGS: TAGS,
        ALLOWED_ATTR: ATTRIBUTES,
        ALLOW_DATA_ATTR: false,
        ALLOW_ARIA_ATTR: false,
        RETURN_DOM_FRAGMENT: true,
    });
    return depth(fragment) > MAX_DEPTH || fragment.querySelectorAll("*").length > 2000 ? null : fragment;
}

function depth(root: Node): number {
    let deepest = 0;
    const rest: [Node, number][] = [[root, 0]];
    for (let next = rest.pop(); next; next = rest.pop()) {
        const [node, level] = next;
        deepest = Math.max(deepest, level);
        if (level <= MAX_DEPTH) node.childNodes.forEach((child) => rest.push([child, level + 1]));
    }
    return deepest;
}
