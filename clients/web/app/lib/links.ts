/** Matrix links: `matrix:` URIs, matrix.to, and plain identifiers (specification, appendix "URIs"). */

export interface MatrixLink {
    kind: "user" | "room";
    /** A user ID, room ID or room alias. */
    id: string;
    event_id?: string;
    via: string[];
}

const USER = /^@[^\s:/?#]{1,200}:[^\s/?#]{1,230}$/;
const ROOM = /^(#[^\s]{1,200}:[^\s/?]{1,230}|![^\s/?]{1,250})$/;

/** What a link or identifier names; null if it is none. */
export function readMatrixLink(text: string): MatrixLink | null {
    const link = text.trim();
    if (link.length > 2000) return null;
    if (link.startsWith("matrix:")) return readUri(link);
    const web = /^https:\/\/matrix\.to\/#\/(.+)$/.exec(link);
    if (web) return readWeb(web[1]!);
    return ofIdentifier(link);
}

function ofIdentifier(id: string, event_id?: string, via: string[] = []): MatrixLink | null {
    if (USER.test(id)) return { kind: "user", id, via };
    if (ROOM.test(id)) return { kind: "room", id, ...(event_id?.startsWith("$") ? { event_id } : {}), via };
    return null;
}

function readUri(link: string): MatrixLink | null {
    const match = /^matrix:(u|r|roomid)\/([^/?]+)(?:\/e\/([^/?]+))?(?:\?(.*))?$/.exec(link);
    if (!match) return null;
    const [, type, id, event, query] = match;
    const via = new URLSearchParams(query ?? "").getAll("via");
    const sigil = { u: "@", r: "#", roomid: "!" }[type!]!;
    return ofIdentifier(sigil + decode(id!), event && `$${decode(event)}`, via);
}

function readWeb(rest: string): MatrixLink | null {
    const [path, query] = rest.split("?", 2);
    const [id, event] = path!.split("/", 2).map(decode);
    return ofIdentifier(id!, event, new URLSearchParams(query ?? "").getAll("via"));
}

function decode(text: string): string {
    try {
        return decodeURIComponent(text);
    } catch {
        return text;
    }
}

/** The link to a user, a room or an event that other clients understand. */
export function webLink(id: string, event_id?: string, via: string[] = []): string {
    const query = via.slice(0, 3).map((server) => `via=${encodeURIComponent(server)}`).join("&");
    return `https://matrix.to/#/${encodeURIComponent(id)}${event_id ? `/${encodeURIComponent(event_id)}` : ""}${query ? `?${query}` : ""}`;
}
