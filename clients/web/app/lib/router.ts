/** Where in the client a person is: the fragment of the address, so that links and the back button work. */
import { createSignal } from "solid-js";

export type Route =
    | { at: "home" }
    | { at: "room"; room_id: string; event_id?: string; panel?: "info" | "thread"; thread_id?: string }
    | { at: "people" }
    | { at: "group" }
    | { at: "public" }
    | { at: "settings"; section?: string }
    | { at: "setup"; token: string }
    | { at: "link"; packed: string }
    | { at: "user"; user_id: string };

export function parseRoute(fragment: string): Route {
    const parts = fragment.replace(/^#?\/?/, "").split("/").map(decode);
    const [first, second, third, fourth] = parts;
    if (first === "setup" && second) return { at: "setup", token: second };
    if (first === "link" && second) return { at: "link", packed: second };
    if (first === "people" || first === "group" || first === "public") return { at: first };
    if (first === "user" && second) return { at: "user", user_id: second };
    if (first === "settings") return { at: "settings", ...(second ? { section: second } : {}) };
    if (first === "room" && second) {
        if (third === "info") return { at: "room", room_id: second, panel: "info" };
        if (third === "thread" && fourth) return { at: "room", room_id: second, panel: "thread", thread_id: fourth };
        return { at: "room", room_id: second, ...(third?.startsWith("$") ? { event_id: third } : {}) };
    }
    return { at: "home" };
}

function decode(text: string): string {
    try {
        return decodeURIComponent(text);
    } catch {
        return text;
    }
}

const [route, setRoute] = createSignal<Route>(parseRoute(globalThis.location?.hash ?? ""), { equals: false });
globalThis.addEventListener?.("hashchange", () => setRoute(parseRoute(location.hash)));

export { route };

export const path = (...parts: string[]) => `#/${parts.map(encodeURIComponent).join("/")}`;
export const roomPath = (room_id: string, ...rest: string[]) => path("room", room_id, ...rest);

export function go(to: string, replace = false): void {
    if (replace) {
        history.replaceState(null, "", to);
        setRoute(parseRoute(to));
    } else location.hash = to;
}
